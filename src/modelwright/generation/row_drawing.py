"""Drawing by settings that differ from row to row, without a word from the host.

`sampling.next_tokens` draws for rows with the same settings, which the host knows; the answer is
the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig
from modelwright.generation.sampling import drawn, keep_min_p, keep_top_p_by_sorting, penalised
from modelwright.generation.transfer import send
from modelwright.model.gpu_kernels import suits_gpu_kernel


@dataclass(frozen=True)
class Stages:
    """What any of the rows asks for: the rest need not be computed."""

    greedy: bool
    sampled: bool
    top_k: bool
    top_p: bool
    min_p: bool
    penalty: bool

    @classmethod
    def of(cls, configs: Sequence[SamplingConfig]) -> "Stages":
        """Those of some settings."""
        sampled = [config for config in configs if config.temperature > 0]
        return cls(
            greedy=len(sampled) < len(configs),
            sampled=bool(sampled),
            top_k=any(config.top_k > 0 for config in sampled),
            top_p=any(config.top_p < 1 for config in sampled),
            min_p=any(config.min_p > 0 for config in sampled),
            penalty=any(config.repetition_penalty != 1 for config in configs),
        )


@dataclass(frozen=True)
class RowSettings:
    """`SamplingConfig` of each row, as numbers on a device."""

    temperature: Float[Tensor, " row"]
    top_k: Int[Tensor, " row"]
    top_p: Float[Tensor, " row"]
    min_p: Float[Tensor, " row"]
    repetition_penalty: Float[Tensor, " row"]

    @classmethod
    def neutral(cls, n_rows: int, device: torch.device) -> "RowSettings":
        """Rows that take the likeliest token."""
        made = cls(
            **{
                field.name: torch.zeros(
                    n_rows,
                    dtype=torch.int64 if field.name == "top_k" else torch.float32,
                    device=device,
                )
                for field in fields(cls)
            }
        )
        made.fill([SamplingConfig(temperature=0)] * n_rows)
        return made

    def fill(self, configs: Sequence[SamplingConfig]) -> None:
        """Take over the settings of the first rows."""
        for field in fields(self):
            kept: Tensor = getattr(self, field.name)
            send([getattr(config, field.name) for config in configs], kept[: len(configs)])

    def of(self, n_rows: int) -> "RowSettings":
        """Those of the first rows."""
        return RowSettings(*(getattr(self, field.name)[:n_rows] for field in fields(self)))


DrawRows = Callable[
    [Tensor, RowSettings, Stages, Float64[Tensor, " row"], Bool[Tensor, "row vocab"] | None], Tensor
]


def draw_rows_for(device: torch.device) -> DrawRows:
    """The fastest edition of `draw_rows` on a device."""
    if suits_gpu_kernel(device):
        from modelwright.generation.draw_kernels import draw_rows as by_kernels

        return by_kernels
    return draw_rows


def draw_rows(
    logits: Float[Tensor, "row vocab"],
    settings: RowSettings,
    stages: Stages,
    chances: Float64[Tensor, " row"],
    seen: Bool[Tensor, "row vocab"] | None,
) -> Int[Tensor, " row"]:
    """Choose one token a row; see `sampling.next_tokens`.

    Args:
        stages: of what the settings ask for.
        seen: which tokens each text holds; None if no penalty asks for it.
    """
    if stages.penalty:
        logits = penalised_rows(logits, settings, seen)
    if not stages.sampled:
        return logits.argmax(-1)
    is_greedy = settings.temperature == 0
    narrow = logits.float() / settings.temperature.where(~is_greedy, 1)[:, None]
    if stages.top_k:
        narrow = keep_top_k_of_rows(narrow, settings.top_k)
    if stages.top_p:
        narrow = keep_top_p_by_sorting(narrow, settings.top_p[:, None])
    if stages.min_p:
        narrow = keep_min_p(narrow, settings.min_p[:, None])
    tokens = drawn(narrow, chances)
    return torch.where(is_greedy, logits.argmax(-1), tokens) if stages.greedy else tokens


def penalised_rows(
    logits: Float[Tensor, "row vocab"],
    settings: RowSettings,
    seen: Bool[Tensor, "row vocab"] | None,
) -> Float[Tensor, "row vocab"]:
    """Logits after each row's penalty, in their own dtype."""
    assert seen is not None
    return penalised(logits, seen, settings.repetition_penalty[:, None])


def keep_top_k_of_rows(
    logits: Float[Tensor, "row vocab"], top_k: Int[Tensor, " row"]
) -> Float[Tensor, "row vocab"]:
    """`sampling.keep_top_k` with a number for each row; 0 keeps all."""
    n_vocab = logits.shape[1]
    rank = torch.where(top_k == 0, n_vocab, top_k).clamp(max=n_vocab) - 1
    ordered = logits.sort(dim=-1, descending=True).values
    return logits.masked_fill(logits < ordered.gather(1, rank[:, None]), -torch.inf)
