"""Which tokenizer a run uses."""

from modelwright.config.schema import settings


@settings
class TokenizerConfig:
    """A tokenizer trained on the run's own text, or one that is there already."""

    vocab_size: int = 4096
    """Number of tokens, special ones included; fewer if the text runs out of pairs to merge."""
    file: str | None = None
    """A tokenizer.json with just vocab_size tokens to use instead of training one."""

    def __post_init__(self) -> None:
        least = 256 + 1  # every byte, and the end of a text
        if self.vocab_size < least:
            raise ValueError(
                f"tokenizer.vocab_size is {self.vocab_size}, but 256 bytes and 1 special token "
                f"must fit; the least is {least}"
            )
