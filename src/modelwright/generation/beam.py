"""Beam search: the likeliest continuation as a whole, looked for along several at once."""

from dataclasses import dataclass
from typing import Literal

import torch

from modelwright.generation.cached_model import CachedModel
from modelwright.generation.engine import start_tokens
from modelwright.model.transformer import Transformer
from modelwright.tokenizer.tokenizer import Tokenizer

out_of_reach = -1e9  # a score that no text has


@dataclass(frozen=True)
class Beam:
    """A finished continuation. The score is its log-probability over length ** penalty."""

    prompt: str
    continuation: str
    tokens: list[int]
    score: float
    ended: Literal["end_of_text", "max_tokens"]

    @property
    def text(self) -> str:
        return self.prompt + self.continuation


@torch.inference_mode()
def beam_search(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    n_beams: int = 4,
    max_tokens: int = 200,
    length_penalty: float = 1.0,
) -> list[Beam]:
    """Keep the `n_beams` likeliest beginnings at each step; return finished texts, the best first.

    The search ends when no beginning in hand scores better at its length than the worst of
    `n_beams` finished texts. Chance has no part in it.

    Args:
        length_penalty: above 0 longer texts score better, for log-probabilities are negative.

    Raises:
        ValueError: if a count is below 1, prompt and continuation do not fit into the context, or
            the tokenizer knows tokens that the model does not.
    """
    if n_beams < 1 or max_tokens < 1:
        raise ValueError(
            f"n_beams is {n_beams} and max_tokens {max_tokens}; the least of each is 1"
        )
    start = start_tokens(model, tokenizer, prompt)
    n_longest = start.shape[1] + max_tokens
    if n_longest > model.config.context:
        raise ValueError(
            f"the prompt has {start.shape[1]} tokens and max_tokens is {max_tokens}, together "
            f"{n_longest}, but model.context is {model.config.context}, which beam search does "
            "not go beyond; shorten them"
        )
    cached = CachedModel(model, n_slots=n_beams, n_tokens=n_longest)
    logits = cached.prefill([0], start).expand(n_beams, -1)
    cached.cache.reorder([0] * n_beams)
    # All beams are the same text now: only the first may be continued.
    scores = torch.full((n_beams,), out_of_reach, device=start.device)
    scores[0] = 0
    running: list[list[int]] = [[] for _ in range(n_beams)]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, max_tokens + 1):
        logprobs = logits[:, : tokenizer.n_vocab].float().log_softmax(-1) + scores[:, None]
        # Each beam can end in one way only, so that twice as many leave enough to go on with.
        best = logprobs.flatten().topk(min(2 * n_beams, logprobs.numel()))
        candidates = [
            (score, place // tokenizer.n_vocab, place % tokenizer.n_vocab)
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        going_on: list[tuple[float, int, int]] = []
        for rank, (score, beam, token) in enumerate(candidates):
            if token != tokenizer.end_of_text and length < max_tokens:
                going_on.append((score, beam, token))
            elif rank < n_beams:
                finished.append((score / length**length_penalty, [*running[beam], token]))
        finished = sorted(finished, key=lambda found: -found[0])[:n_beams]
        going_on = going_on[:n_beams]
        if not going_on or (
            len(finished) == n_beams and going_on[0][0] / length**length_penalty <= finished[-1][0]
        ):
            break
        running = [[*running[beam], token] for _, beam, token in going_on]
        scores = torch.tensor([score for score, _, _ in going_on], device=start.device)
        cached.cache.reorder([beam for _, beam, _ in going_on])
        logits = cached.decode(torch.tensor([ids[-1] for ids in running], device=start.device))
    return [_beam(tokenizer, prompt, ids, score) for score, ids in finished]


def _beam(tokenizer: Tokenizer, prompt: str, ids: list[int], score: float) -> Beam:
    is_ended = ids[-1] == tokenizer.end_of_text
    continuation = tokenizer.decode(ids[:-1] if is_ended else ids)
    return Beam(prompt, continuation, ids, score, "end_of_text" if is_ended else "max_tokens")
