"""The kinds of attention on one core of this CPU, forward and backward.

    python benchmarks/attention_cpu.py

"flash" is PyTorch's scaled_dot_product_attention, "plain" the equation written out, "striped"
leaves out most of what is hidden. The last column is what `training.attention = "auto"` builds on.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

from modelwright.runtime.threads import wait_politely

wait_politely()

import torch  # noqa: E402

from modelwright.model.attention import Attend, make_attend  # noqa: E402
from modelwright.model.config import AttentionKind  # noqa: E402
from modelwright.runtime.device import describe_machine  # noqa: E402

n_repeats = 9
kinds: tuple[AttentionKind, ...] = ("plain", "flash", "striped")
shapes = [(2, 4, 256, 32), (2, 4, 256, 64), (4, 4, 128, 64), (1, 6, 512, 64), (1, 12, 1024, 64)]


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call, after one to warm up."""
    call()
    taken = []
    for _ in range(n_repeats):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def there_and_back(attend: Attend, inputs: list[torch.Tensor], gradient: torch.Tensor) -> None:
    """Attention and its gradient."""
    queries, keys, values = inputs
    attend(queries, keys, values, None, 0.0).backward(gradient)


def main() -> None:
    """Measure every shape in fp32 and bf16 and print a table."""
    torch.set_num_threads(1)
    print(describe_machine(torch.device("cpu")))
    heads = ("plain ms", "flash ms", "striped ms", "flash / striped")
    print(f"| batch, heads, seq, d_head | dtype | {' | '.join(heads)} |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in shapes:
            inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]
            gradient = torch.randn(shape, dtype=dtype)
            taken = {
                kind: milliseconds(partial(there_and_back, make_attend(kind), inputs, gradient))
                for kind in kinds
            }
            print(
                f"| {', '.join(map(str, shape))} | {str(dtype).removeprefix('torch.')} | "
                f"{' | '.join(f'{taken[kind]:.2f}' for kind in kinds)} | "
                f"{taken['flash'] / taken['striped']:.2f} |"
            )


if __name__ == "__main__":
    main()
