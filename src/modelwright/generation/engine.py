"""Text from a model, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig
from modelwright.generation.sampling import next_token
from modelwright.model.transformer import Transformer
from modelwright.runtime.seeding import torch_generator
from modelwright.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Generation:
    """One finished text: the prompt as given, what the model added, and why it stopped."""

    prompt: str
    continuation: str
    n_tokens: int
    ended: bool  # True if the model ended the text itself, False if max_tokens did

    @property
    def text(self) -> str:
        return self.prompt + self.continuation


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    n_samples: int = 1,
    max_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> list[Generation]:
    """Continue a prompt several times.

    Args:
        prompt: may be empty: then the model begins a document of its own.
        max_tokens: most tokens added to each; once the text is longer than the model's context,
            only its last part is seen.
        seed: of the draws; the stream is "sampling".

    Raises:
        ValueError: if a count is below 1 or the tokenizer knows tokens that the model does not.
    """
    if n_samples < 1 or max_tokens < 1:
        raise ValueError(
            f"n_samples is {n_samples} and max_tokens {max_tokens}; the least of each is 1"
        )
    start = start_tokens(model, tokenizer, prompt)
    added = [[] for _ in range(n_samples)]
    ended = [False] * n_samples
    generator = torch_generator(seed, "sampling", start.device.type)
    ids = start.expand(n_samples, -1)
    for tokens in _continuations(model, ids, sampling or SamplingConfig(), generator, max_tokens):
        for row, token in enumerate(tokens.tolist()):
            if not ended[row]:
                ended[row] = token == tokenizer.end_of_text
                added[row].append(token)
        if all(ended):
            break
    return [
        Generation(prompt, tokenizer.decode(tokens[: -1 if done else None]), len(tokens), done)
        for tokens, done in zip(added, ended, strict=True)
    ]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int = 200,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a prompt once, giving the text token by token, never half a character.

    A token that leaves a character unfinished gives an empty piece.
    """
    start = start_tokens(model, tokenizer, prompt)
    generator = torch_generator(seed, "sampling", start.device.type)
    decoder = tokenizer.streaming_decoder()
    for tokens in _continuations(model, start, sampling or SamplingConfig(), generator, max_tokens):
        token = int(tokens[0])
        if token == tokenizer.end_of_text:
            break
        yield decoder.feed(token)
    if piece := decoder.finish():
        yield piece


def start_tokens(model: Transformer, tokenizer: Tokenizer, prompt: str) -> Int[Tensor, "1 seq"]:
    """The prompt's ids after an end-of-text, which is how every document began in training."""
    if tokenizer.n_vocab > (model.config.vocab_size or 0):
        raise ValueError(
            f"the tokenizer has {tokenizer.n_vocab} tokens, but the model knows "
            f"{model.config.vocab_size}; use the tokenizer it was trained with"
        )
    ids = [tokenizer.end_of_text, *(int(token) for token in tokenizer.encode(prompt))]
    device = next(model.parameters()).device
    return torch.tensor([ids], dtype=torch.int64, device=device)


@torch.inference_mode()
def _continuations(
    model: Transformer,
    ids: Int[Tensor, "batch seq"],
    sampling: SamplingConfig,
    generator: torch.Generator,
    max_tokens: int,
) -> Iterator[Int[Tensor, " batch"]]:
    """The next token of every row, again and again."""
    for _ in range(max_tokens):
        visible = ids[:, -model.config.context :]
        logits = model.logits(model.hidden(visible)[:, -1])
        tokens = next_token(logits, sampling, generator)
        ids = torch.cat((ids, tokens[:, None]), dim=1)
        yield tokens
