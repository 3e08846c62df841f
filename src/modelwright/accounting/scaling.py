"""How many tokens a model of a given size wants, by published fits of loss to size and data.

A law holds for the data, the tokenizer and the range of sizes it was fitted on: its losses are in
nats per token of its own vocabulary and cannot be compared with those of another, and its split
of a budget says nothing of data that is repeated or of what serving the model will cost. What can
be taken elsewhere is the shape: how parameters and tokens trade against each other.
"""

import math
from dataclasses import dataclass

tokens_per_parameter = 20
largest_size = 1e30  # of a model that is told as the best for a budget


def chinchilla_tokens(n_parameters: int) -> int:
    """The rule of thumb: 20 tokens for each parameter.

    Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", table 3, whose
    first approach gives 20 to 22 tokens per parameter over three orders of magnitude.
    """
    return tokens_per_parameter * n_parameters


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs that a token costs a model of N parameters: coefficient * N^exponent."""

    coefficient: float = 6.0
    exponent: float = 1.0

    def flops_per_token(self, n_parameters: float) -> float:
        return self.coefficient * n_parameters**self.exponent

    def tokens(self, n_parameters: float, flops: float) -> float:
        """That such a model can see with that much work."""
        return flops / self.flops_per_token(n_parameters)


# The rule of thumb: two FLOPs a parameter on the way forward and four on the way back.
six_n = Work()


@dataclass(frozen=True, kw_only=True)
class Split:
    """A budget of FLOPs divided between the size of a model and the tokens it sees."""

    n_parameters: float
    n_tokens: float
    loss: float  # in nats per token of the law's own data

    @property
    def tokens_per_parameter(self) -> float:
        return self.n_tokens / self.n_parameters


@dataclass(frozen=True, kw_only=True)
class LossLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, in nats per token, for N parameters and D tokens.

    Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", equation 2;
    the optimum under C = 6 N D is equation 4. Where a token costs c N^p instead of 6 N, the same
    step gives N^(alpha + p beta) = alpha A / (p beta B) * (C / c)^beta.
    """

    source: str
    E: float  # the entropy of the text itself, which no model gets below
    A: float
    B: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("E", "A", "B", "alpha", "beta"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name} of a loss law is {getattr(self, name)}; choose a number above 0, or "
                    "more parameters or tokens would not make the loss lower"
                )

    def loss(self, n_parameters: float, n_tokens: float) -> float:
        """In nats per token of the data and the tokenizer that the law was fitted on."""
        return self.E + self.A / n_parameters**self.alpha + self.B / n_tokens**self.beta

    def optimal_tokens(self, n_parameters: float) -> float:
        """The tokens with which no other split of the same 6 N D has a lower loss.

        There a percent more parameters wins as much as a percent more tokens:
        alpha A / N^alpha = beta B / D^beta.
        """
        from_parameters = self.alpha * self.A / n_parameters**self.alpha
        return (self.beta * self.B / from_parameters) ** (1 / self.beta)

    def optimal_parameters(self, flops: float, work: Work = six_n) -> float:
        """The size of model that reaches the lowest loss with that much work.

        By logarithms, and from 1 to `largest_size`: where the exponents are next to nothing, the
        size is too large for a float.
        """
        both = self.alpha + work.exponent * self.beta
        ratio = math.log(self.alpha * self.A) - math.log(work.exponent * self.beta * self.B)
        log_size = (ratio + self.beta * math.log(flops / work.coefficient)) / both
        return math.exp(min(max(log_size, 0.0), math.log(largest_size)))

    def optimal_split(self, flops: float, work: Work = six_n) -> Split:
        """The model and the tokens that reach the lowest loss with that much work."""
        n_parameters = self.optimal_parameters(flops, work)
        n_tokens = work.tokens(n_parameters, flops)
        return Split(
            n_parameters=n_parameters,
            n_tokens=n_tokens,
            loss=self.loss(n_parameters, n_tokens),
        )


# The constants as printed; rounded to two digits in the exponents, they give far more tokens per
# parameter to large models than the other two approaches of the same paper.
hoffmann = LossLaw(
    source='Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section D.3',
    E=1.69,
    A=406.4,
    B=410.7,
    alpha=0.34,
    beta=0.28,
)

# A second fit to the same runs, read off the paper's figure.
besiroglu = LossLaw(
    source='Besiroglu et al. 2024, "Chinchilla Scaling: A replication attempt", section 3',
    E=1.8172,
    A=482.01,
    B=2085.43,
    alpha=0.3478,
    beta=0.3658,
)

loss_laws = {"hoffmann": hoffmann, "besiroglu": besiroglu}


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """loss = (scale / x)^exponent while nothing but x is scarce, in nats per token."""

    scale: float
    exponent: float

    def loss(self, x: float) -> float:
        return (self.scale / x) ** self.exponent

    def growth_for(self, loss_ratio: float) -> float:
        """By what factor x has to grow for a loss of `loss_ratio` times what it was.

        Raises:
            ValueError: if the ratio is not above 0.
        """
        if loss_ratio <= 0:
            raise ValueError(
                f"loss_ratio is {loss_ratio}, but a loss stays above 0; choose a number such as "
                "0.9, a tenth less"
            )
        return loss_ratio ** (-1 / self.exponent)


# For the record: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", equations 1.1 and
# 1.2, on WebText2 with GPT-2's tokenizer. Parameters are counted without embeddings.
kaplan_parameters = PowerLaw(scale=8.8e13, exponent=0.076)
kaplan_tokens = PowerLaw(scale=5.4e13, exponent=0.095)
# How the best size grows with compute (section 6): faster than in the laws above, where it is
# about the square root, so that no fixed number of tokens per parameter follows from it.
kaplan_size_exponent = 0.73
