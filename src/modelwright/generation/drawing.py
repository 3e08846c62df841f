"""The next token of every text in a batch, each by its own settings and its own seed."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig
from modelwright.generation.requests import Handle, TokenChances
from modelwright.generation.sampling import chance, next_tokens


class Drawing:
    """Chooses tokens for the texts in slots, and remembers what they hold if a penalty asks."""

    def __init__(self, *, n_slots: int, n_vocab: int, device: torch.device) -> None:
        self.shape = (n_slots, n_vocab)
        self.device = device
        self.seen: Tensor | None = None  # of each slot and token; made when it is first needed

    def join(self, row: int, handle: Handle) -> None:
        """Take note of the prompt of a text that has come into a slot."""
        if self.seen is None:
            if handle.request.sampling.repetition_penalty == 1:
                return
            # What the texts already here hold is not asked for: their penalty is none.
            self.seen = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        self.seen[row] = False
        self.seen[row, torch.tensor(handle.prompt_ids, device=self.device)] = True

    def move(self, source: int, target: int) -> None:
        """Take note of a text that changes its slot."""
        if self.seen is not None:
            self.seen[target] = self.seen[source]

    def draw(
        self, logits: Float[Tensor, "text vocab"], handles: Sequence[Handle]
    ) -> Int[Tensor, " text"]:
        """The next token of each text, those with the same settings together."""
        rows_of: dict[SamplingConfig, list[int]] = defaultdict(list)
        for row, handle in enumerate(handles):
            rows_of[handle.request.sampling].append(row)
        chances = torch.tensor(
            [chance(handle.request.seed, len(handle.tokens)) for handle in handles],
            dtype=torch.float64,
        ).to(self.device)
        seen = None if self.seen is None else self.seen[: len(handles)]
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


def note_chances(
    logits: Float[Tensor, "text vocab"], tokens: Sequence[int], handles: Sequence[Handle]
) -> None:
    """Give the texts that ask for them the log-probabilities of the tokens they get."""
    n_most = max((handle.request.n_logprobs or 0 for handle in handles), default=0)
    if all(handle.request.n_logprobs is None for handle in handles):
        return
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None]).tolist()
    best = logprobs.topk(min(n_most, logits.shape[-1]), dim=-1)
    rows = zip(handles, tokens, chosen, best.indices.tolist(), best.values.tolist(), strict=True)
    for handle, token, (logprob,), ids, values in rows:
        if (n := handle.request.n_logprobs) is not None:
            likeliest = list(zip(ids[:n], values[:n], strict=True))
            handle.logprobs.append(TokenChances(token, logprob, likeliest))
