"""Which tokenizer a run uses."""

from modelwright.config.schema import settings
from modelwright.tokenizer.splitting import check_pattern, pattern_of


@settings
class TokenizerConfig:
    """A tokenizer trained on the run's own text, or one that is there already."""

    vocab_size: int = 4096
    """Number of tokens, special ones included; fewer if the text runs out of pairs to merge."""
    pattern: str = "gpt2"
    """How text is cut: gpt2, cl100k, llama3, o200k, none, or a regular expression (slower)."""
    digits_apart: bool = False
    """Make every digit a piece of its own, so that numbers are read digit by digit."""
    learn_bytes: int = 1_000_000_000
    """About how much of the training text to learn from, spread evenly over all of it."""
    file: str | None = None
    """A tokenizer.json with just vocab_size tokens to use instead of training one."""

    def __post_init__(self) -> None:
        least = 256 + 1  # every byte, and the end of a text
        if self.vocab_size < least:
            raise ValueError(
                f"tokenizer.vocab_size is {self.vocab_size}, but 256 bytes and 1 special token "
                f"must fit; the least is {least}"
            )
        if self.learn_bytes < 1000:
            raise ValueError(
                f"tokenizer.learn_bytes is {self.learn_bytes}; the least is 1000, and "
                "1_000_000_000 is enough for most"
            )
        check_pattern(self.split_pattern)

    @property
    def split_pattern(self) -> str:
        """The regular expression that cuts text."""
        return pattern_of(self.pattern, digits_apart=self.digits_apart)
