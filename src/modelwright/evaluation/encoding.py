"""From pairs of texts to tokens: where a context ends, and what a model can still see of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelwright.evaluation.items import Item
from modelwright.model.config import ModelConfig
from modelwright.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Scored:
    """A text of which the last tokens are to be scored.

    Attributes:
        ids: all that the model reads, and after it the last token that is scored.
        n_scored: how many of the last ids, at least one.
        truncated: whether the beginning was left out.
    """

    ids: tuple[int, ...]
    n_scored: int
    truncated: bool = False

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads."""
        return self.ids[:-1]

    @property
    def targets(self) -> tuple[int, ...]:
        """What it should say."""
        return self.ids[-self.n_scored :]


def require_fitting(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Refuse a tokenizer whose tokens the model does not have.

    Raises:
        ValueError: with both sizes.
    """
    if tokenizer.n_vocab > config.known_vocab:
        raise ValueError(
            f"the tokenizer {tokenizer.fingerprint[:16]} has {tokenizer.n_vocab:,} tokens, but the "
            f"model knows {config.known_vocab:,}; take the tokenizer that it was trained with"
        )


def encode_items(
    items: Sequence[Item], tokenizer: Tokenizer, *, context: int
) -> list[tuple[Scored, ...]]:
    """The pairs of each item in tokens.

    Raises:
        ValueError: if a continuation alone is longer than the model's context.
    """
    pairs = [moved_space(*pair) for item in items for pair in item.pairs]
    texts = [text for before, after in pairs for text in (before + after, before)]
    encoded = tokenizer.encode_batch(texts)
    scored: list[Scored] = []
    for place, (before, _) in enumerate(pairs):
        whole, beginning = encoded[2 * place].tolist(), encoded[2 * place + 1].tolist()
        scored.append(split(whole, beginning, tokenizer, context, is_bare=not before))
    ends = [0]
    for item in items:
        ends.append(ends[-1] + len(item.pairs))
    return [tuple(scored[first:end]) for first, end in pairwise(ends)]


def moved_space(before: str, after: str) -> tuple[str, str]:
    """Give white space at the end of a context to the continuation, whose tokens begin with it."""
    kept = before.rstrip()
    return kept, before[len(kept) :] + after


def split(
    whole: list[int], beginning: list[int], tokenizer: Tokenizer, context: int, *, is_bare: bool
) -> Scored:
    """Score what the tokens of a whole text are longer than those of its beginning.

    Args:
        is_bare: whether there is no beginning; then the end of a document stands before the text.
    """
    if is_bare and whole[:1] != [tokenizer.end_of_text]:
        return scored_end([tokenizer.end_of_text], whole, context)
    n_before = max(len(beginning), 1)
    return scored_end(whole[:n_before], whole[n_before:], context)


def scored_end(before: Sequence[int], after: Sequence[int], context: int) -> Scored:
    """Score tokens after others, as far as the model sees back.

    Raises:
        ValueError: if there is nothing to score, or more than the model sees.
    """
    if not 0 < len(after) <= context:
        raise ValueError(
            f"a continuation has {len(after)} tokens, but model.context is {context}, and what is "
            "scored has to fit in it"
        )
    ids = (*before, *after)
    return Scored(ids[-(context + 1) :], len(after), truncated=len(ids) > context + 1)
