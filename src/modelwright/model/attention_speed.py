"""Which kernel for attention is the fastest for a shape: measured once and kept.

Which one that is differs from GPU to GPU, and with the size of a head, the length of the text and
what is hidden. The answer stays in the user's folder, so that a run that goes on takes the same
kernel, and with it the same roundings, as before.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from modelwright.model.attention import make_attend
from modelwright.model.config import AttentionKind
from modelwright.runtime.files import write_atomically
from modelwright.runtime.user_folder import user_folder

n_rounds = 7
n_in_a_row = 4  # forward and backward, which take the GPU longer than the host to ask for
n_cycles_asleep = 20_000_000  # of the GPU's clock: about a hundredth of a second
most_elements = 2**26  # of the queries that are tried; more sequences take no other kernel
least_gain = 0.03  # below it the first of the kinds stays: others round differently for nothing


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """What attention is computed of.

    Attributes:
        n_sequences: at once.
        masked: whether more is hidden than later positions.
    """

    n_sequences: int
    n_heads: int
    n_kv_heads: int
    n_tokens: int
    d_head: int
    dtype: torch.dtype
    masked: bool = False
    dropout: float = 0.0

    def name(self, device: torch.device) -> str:
        """The shape on a device, as the file of answers has it."""
        rows = f"{self.n_sequences} x {self.n_heads}/{self.n_kv_heads} x {self.n_tokens}"
        parts = [torch.cuda.get_device_name(device), f"torch {torch.__version__}"]
        parts += [str(self.dtype).removeprefix("torch."), f"{rows} x {self.d_head}"]
        parts += ["masked"] * self.masked + [f"dropout {self.dropout}"] * (self.dropout > 0)
        return ", ".join(parts)


def fastest_attention(
    kinds: tuple[AttentionKind, ...], shape: AttentionShape, device: torch.device
) -> AttentionKind:
    """The fastest of some kinds forward and backward on a GPU, found by taking their time.

    Args:
        kinds: all of which work; the first one is taken if none is clearly faster.
    """
    if len(kinds) == 1:
        return kinds[0]
    file = user_folder() / "attention.json"
    known = _read(file)
    name = shape.name(device)
    seconds = known.get(name, {})
    if not set(kinds) <= seconds.keys():
        seconds = {kind: attention_seconds(kind, shape, device) for kind in kinds}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(_read(file) | {name: seconds}, indent=2) + "\n")
    best = min(kinds, key=lambda kind: seconds[kind])
    return best if seconds[best] < (1 - least_gain) * seconds[kinds[0]] else kinds[0]


def _read(file: Path) -> dict[str, dict[str, float]]:
    """The answers so far; what is no file of them is measured anew."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def attention_seconds(kind: AttentionKind, shape: AttentionShape, device: torch.device) -> float:
    """The median time of a kind forward and backward, in seconds."""
    a_sequence = shape.n_heads * shape.n_tokens * shape.d_head
    n_sequences = max(1, min(shape.n_sequences, most_elements // a_sequence))
    generator = torch.Generator(device).manual_seed(1)
    queries, keys, values = (
        torch.randn(
            (n_sequences, n_heads, shape.n_tokens, shape.d_head),
            dtype=shape.dtype,
            device=device,
            generator=generator,
        ).requires_grad_()
        for n_heads in (shape.n_heads, shape.n_kv_heads, shape.n_kv_heads)
    )
    visible = None
    if shape.masked:
        square = torch.ones(shape.n_tokens, shape.n_tokens, dtype=torch.bool, device=device)
        visible = square.tril().expand(n_sequences, 1, -1, -1).contiguous()
    attend = make_attend(kind)
    slope = torch.randn_like(queries)
    seconds = []
    for _ in range(2 + n_rounds):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # Meanwhile the host asks for all that is timed, so that nothing waits for it.
        torch.cuda._sleep(n_cycles_asleep)  # pyright: ignore[reportPrivateUsage]
        began.record()
        for _ in range(n_in_a_row):
            mixed = attend(queries, keys, values, visible, shape.dropout)
            torch.autograd.grad(mixed, (queries, keys, values), slope)
        ended.record()
        ended.synchronize()
        seconds.append(began.elapsed_time(ended) / 1000 / n_in_a_row)
    return statistics.median(seconds[2:])
