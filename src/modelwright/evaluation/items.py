"""What a task asks a model, and what the model made of it.

An item is a few pairs of a context and a continuation. The model says how likely each continuation
is; the likeliest is its answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""One line of a file, as JSON has it."""


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        pairs: context and continuation of each possible answer. Mostly the context is the same;
            where a task puts the answers into the context, the continuation is.
        gold: which of the pairs is right.
        choices: the answers as the file has them, by whose length likelihoods are compared.
    """

    pairs: tuple[tuple[str, str], ...]
    gold: int
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a model made of an item, a value for each of its pairs.

    Attributes:
        logprobs: natural logarithm of the chance of the continuation, given the context.
        greedy: whether each token of it was the likeliest one.
        n_tokens: how many tokens the continuation has.
        truncated: whether a context lost its beginning, because the model does not see so far.
    """

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    n_tokens: tuple[int, ...]
    truncated: bool


def choice_item(context: str, choices: Sequence[str], gold: int) -> Item:
    """A question whose answers follow it after a space."""
    pairs = tuple((context, f" {choice}") for choice in choices)
    return Item(pairs, gold, tuple(choices))


def filled_item(contexts: Sequence[str], continuation: str, gold: int) -> Item:
    """A sentence with a gap: its end, after a space, has to follow from the right filling."""
    pairs = tuple((context, f" {continuation}") for context in contexts)
    return Item(pairs, gold, tuple(contexts))
