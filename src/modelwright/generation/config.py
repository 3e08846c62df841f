"""How text is drawn from a model: settings only, so that reading them loads no torch."""

from modelwright.config.schema import settings


@settings
class SamplingConfig:
    """How the next token is drawn; what narrows the choice is applied in the order of the fields,
    the penalty first."""

    temperature: float = 0.8
    """Divides the logits: below 1 safer, above 1 wilder, 0 always the likeliest token."""
    top_k: int = 0
    """Keep only this many of the likeliest tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep the fewest likeliest tokens whose chances sum to at least this; 1 keeps all."""
    min_p: float = 0.0
    """Keep tokens with at least this fraction of the likeliest one's chance; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens that the text holds and multiplies the negative ones:
    above 1 the text repeats itself less; 1 changes nothing."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(
                f"temperature is {self.temperature}; choose 0 (greedy) or more, such as 0.8"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; choose 0 (all) or more, such as 50")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; choose a chance above 0 and up to 1")
        if not 0 <= self.min_p <= 1:
            raise ValueError(
                f"min_p is {self.min_p}; choose a fraction from 0 (all) to 1, such as 0.05"
            )
        if self.repetition_penalty <= 0:
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty}; choose a number above 0: 1 for "
                "none, or such as 1.2"
            )
