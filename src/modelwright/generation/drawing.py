"""The next token of every text in a batch, each by its own settings and its own seed."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig
from modelwright.generation.requests import Handle, TokenChances
from modelwright.generation.row_drawing import RowSettings, Stages, draw_rows_for
from modelwright.generation.sampling import chance, next_tokens
from modelwright.generation.transfer import OnItsWay, on_device, send


class Seen:
    """Which tokens the text in each slot holds; there from the first time that a penalty asks."""

    def __init__(self, *, n_slots: int, n_vocab: int, device: torch.device) -> None:
        self.shape = (n_slots, n_vocab)
        self.device = device
        self.held: Tensor | None = None

    def join(self, row: int, handle: Handle) -> None:
        """Take note of the prompt of a text that has come into a slot."""
        if self.held is None:
            if handle.request.sampling.repetition_penalty == 1:
                return
            # What the texts already here hold is not asked for: their penalty is none.
            self.held = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        self.held[row] = False
        ids = on_device(handle.prompt_ids, torch.int64, self.device)
        self.held[row].index_fill_(0, ids, True)

    def move(self, source: int, target: int) -> None:
        """Take note of a text that changes its slot."""
        if self.held is not None:
            self.held[target] = self.held[source]

    def of(self, n_rows: int) -> Bool[Tensor, "{n_rows} vocab"] | None:
        """What the first texts hold."""
        return None if self.held is None else self.held[:n_rows]


class Drawing:
    """Chooses tokens for the texts in slots, those with the same settings together."""

    def __init__(self, *, n_slots: int, n_vocab: int, device: torch.device) -> None:
        self.device = device
        self.seen = Seen(n_slots=n_slots, n_vocab=n_vocab, device=device)

    def draw(
        self, logits: Float[Tensor, "text vocab"], handles: Sequence[Handle]
    ) -> Int[Tensor, " text"]:
        """The next token of each text."""
        rows_of: dict[SamplingConfig, list[int]] = defaultdict(list)
        for row, handle in enumerate(handles):
            rows_of[handle.request.sampling].append(row)
        chances = on_device(chances_of(handles), torch.float64, self.device)
        seen = self.seen.of(len(handles))
        if len(rows_of) == 1:
            tokens = next_tokens(logits, handles[0].request.sampling, chances, seen)
        else:
            tokens = torch.empty(len(handles), dtype=torch.int64, device=self.device)
            for config, numbers in rows_of.items():
                rows = torch.tensor(numbers, device=self.device)
                held = None if seen is None else seen[rows]
                tokens[rows] = next_tokens(logits[rows], config, chances[rows], held)
        if seen is not None:
            seen.scatter_(1, tokens[:, None], True)
        return tokens


class RowDrawing:
    """Chooses tokens on a device by operations that a CUDA graph can repeat.

    Settings and chances of every slot are in tensors that stay where they are: `prepare` fills
    them, and `choose` reads them.
    """

    def __init__(self, *, n_slots: int, n_vocab: int, device: torch.device) -> None:
        self.seen = Seen(n_slots=n_slots, n_vocab=n_vocab, device=device)
        self.settings = RowSettings.neutral(n_slots, device)
        self.chances = torch.zeros(n_slots, dtype=torch.float64, device=device)
        self.draw_rows = draw_rows_for(device)
        self._configs: list[SamplingConfig] = []

    def prepare(self, handles: Sequence[Handle]) -> Stages:
        """Let the device know what is asked for; the stages say which operations that takes."""
        configs = [handle.request.sampling for handle in handles]
        if configs != self._configs:
            self.settings.fill(configs)
            self._configs = configs
        stages = Stages.of(configs)
        if stages.sampled:
            send(chances_of(handles), self.chances[: len(handles)])
        return stages

    def choose(self, logits: Float[Tensor, "text vocab"], stages: Stages) -> Int[Tensor, " text"]:
        """The next tokens of the first texts, of which there may be more than were prepared."""
        n_rows = len(logits)
        seen = self.seen.of(n_rows)
        tokens = self.draw_rows(
            logits, self.settings.of(n_rows), stages, self.chances[:n_rows], seen
        )
        if stages.penalty:
            assert seen is not None
            seen.scatter_(1, tokens[:, None], True)
        return tokens

    def draw(
        self, logits: Float[Tensor, "text vocab"], handles: Sequence[Handle]
    ) -> Int[Tensor, " text"]:
        """The next token of each text."""
        return self.choose(logits, self.prepare(handles))


def chances_of(handles: Sequence[Handle]) -> list[float]:
    """The number that decides the next token of each text; one that is greedy needs none."""
    return [
        0.0
        if handle.request.sampling.temperature == 0
        else chance(handle.request.seed, handle.n_drawn)
        for handle in handles
    ]


class ChancesOnTheirWay:
    """Log-probabilities of the tokens of a step, for the texts that ask for them."""

    def __init__(
        self,
        logits: Float[Tensor, "text vocab"],
        tokens: Int[Tensor, " text"],
        handles: Sequence[Handle],
    ) -> None:
        n_most = max(handle.request.n_logprobs or 0 for handle in handles)
        logprobs = logits.float().log_softmax(-1)
        best = logprobs.topk(min(n_most, logits.shape[-1]), dim=-1)
        self._chosen = OnItsWay(logprobs.gather(1, tokens[:, None])[:, 0])
        self._ids, self._values = OnItsWay(best.indices), OnItsWay(best.values)

    def of_rows(self, tokens: Sequence[int]) -> list[TokenChances]:
        """Those of every text, its likeliest tokens as many as any text asks for."""
        rows = zip(
            tokens,
            self._chosen.numbers(),
            self._ids.numbers(),
            self._values.numbers(),
            strict=True,
        )
        return [
            TokenChances(token, logprob, list(zip(ids, values, strict=True)))
            for token, logprob, ids, values in rows
        ]
