"""The two kinds of attention on this CPU, forward and backward, as a ratio.

    python benchmarks/attention_cpu.py

"fused" is PyTorch's scaled_dot_product_attention, "plain" the equation written out. The last column
is what `training.attention = "auto"` builds on: above 1, plain is the faster one.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

from modelwright.runtime.threads import wait_politely

wait_politely()

import torch  # noqa: E402

from modelwright.model.attention import Attend, attention_kinds  # noqa: E402
from modelwright.runtime.device import describe_machine  # noqa: E402

n_repeats = 9
shapes = [(8, 3, 256, 64), (16, 4, 256, 64), (32, 4, 128, 64), (4, 12, 1024, 64)]


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
    attend(*inputs).backward(gradient)


def main() -> None:
    """Measure every shape in fp32 and bf16 and print a table."""
    print(describe_machine(torch.device("cpu")))
    print("| batch, heads, seq, d_head | dtype | fused ms | plain ms | fused / plain |")
    print("| --- | --- | ---: | ---: | ---: |")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in shapes:
            inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]
            gradient = torch.randn(shape, dtype=dtype)
            taken = {
                kind: milliseconds(partial(there_and_back, attend, inputs, gradient))
                for kind, attend in attention_kinds.items()
            }
            print(
                f"| {', '.join(map(str, shape))} | {str(dtype).removeprefix('torch.')} | "
                f"{taken['fused']:.1f} | {taken['plain']:.1f} | "
                f"{taken['fused'] / taken['plain']:.2f} |"
            )


if __name__ == "__main__":
    main()
