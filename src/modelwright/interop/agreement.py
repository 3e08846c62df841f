"""Whether an export is the model it was made of: transformers loads it, and the numbers decide."""

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.checkpoint.bundle import Bundle
from modelwright.model.transformer import Transformer
from modelwright.tokenizer.tokenizer import Tokenizer

n_sequences = 3
most_tokens = 256
# Of the largest logit: two programs add the same fp32 numbers in different orders.
tolerance = 1e-3

sample_texts = (
    "Hello, world! It's 12345.6789 o'clock.\n\n  Two  spaces,\ttabs\r\n and an end  ",
    "naïve café — Ωmega, 日本語, עברית, 🙂👩‍👩‍👧 \u00a0\u200b\ufeff e\u0301",
    "'Tis we'LL I'd;x=[{()}]//**--__ 0x1F $%^&~`\\|<> \x00\x01\x7f",
)


@dataclass(frozen=True)
class Agreement:
    """How far apart the logits of the two programs are."""

    program: str  # with its version
    difference: float  # largest of a logit, from the same stored weights
    largest_logit: float
    rounding: float  # what storing the weights in fewer bits moves a logit by at most
    n_sequences: int


def is_installed() -> bool:
    """Whether transformers can be asked."""
    return importlib.util.find_spec("transformers") is not None


def compare(folder: Path, bundle: Bundle, dtype: torch.dtype) -> Agreement:
    """Load an export with transformers and compare its logits and token ids with ours.

    Needs memory for the model two or, where the weights were rounded, three times in fp32.

    Args:
        dtype: in which the weights are stored.

    Raises:
        RuntimeError: if the logits differ by more than rounding.
        ValueError: if the tokenizer gives other ids, as one with a pattern of its own may.
    """
    with _quiet():
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        _require_same_ids(tokenizer, bundle.tokenizer)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        theirs = theirs.float().eval()
    ids = random_ids(bundle.model)
    with torch.no_grad():
        found = theirs(ids).logits
        del theirs
        ours = bundle.model(ids)
        expected = ours if dtype == torch.float32 else _with_rounded_weights(bundle, dtype)(ids)
    agreement = Agreement(
        program=f"transformers {transformers.__version__}",
        difference=_largest(found - expected),
        largest_logit=_largest(expected),
        rounding=_largest(expected - ours),
        n_sequences=len(ids),
    )
    if not agreement.difference <= tolerance * max(1.0, agreement.largest_logit):
        raise RuntimeError(
            f"{agreement.program} gives logits that are up to {agreement.difference:.3g} away from "
            f"ours (the largest is {agreement.largest_logit:.3g}), so nothing was exported"
        )
    return agreement


def random_ids(model: Transformer) -> Int[Tensor, "batch seq"]:
    """A few sequences, always the same, as long as the model's context allows."""
    config = model.config
    return torch.randint(
        config.known_vocab,
        (n_sequences, min(config.context, most_tokens)),
        generator=torch.Generator().manual_seed(0),
    )


def _with_rounded_weights(bundle: Bundle, dtype: torch.dtype) -> Transformer:
    rounded = copy.deepcopy(bundle.model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.to(dtype))
    return rounded


def _require_same_ids(theirs, ours: Tokenizer) -> None:
    for text in sample_texts:
        expected = ours.encode(text, allowed_special="all").tolist()
        if theirs(text, add_special_tokens=False).input_ids != expected:
            raise ValueError(
                f"the tokenizers library gives {text!r} other ids than ours, so nothing was "
                "exported; a split pattern of your own must mean the same to both (see "
                "docs/formats.md)"
            )


def _largest(numbers: Float[Tensor, "*axes"]) -> float:
    return numbers.abs().max().item()


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and advice of a library while it loads."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    had_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
