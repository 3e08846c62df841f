"""What textbooks and tools say a model takes, to be compared with what it really takes.

They are written down as their sources have them, mistakes included; `docs/memory.md` says what
each gets wrong. The documents that are named by what they are stand in `textbook.toml`, with all
their figures.
"""

from dataclasses import dataclass
from typing import Literal

from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import ModelConfig

Subject = Literal["training", "inference", "blocks"]  # the last: activations of all blocks


@dataclass(frozen=True)
class TextbookRule:
    """What one rule says about one model.

    Attributes:
        about: the amount that it is a rule for: the peak of training, that of inference, or what
            all blocks keep for the backward pass.
    """

    name: str
    source: str
    n_bytes: int
    about: Subject = "training"

    def relative_error(self, traced_bytes: int) -> float:
        """How far off it is: 0.5 for half too much, -0.5 for half of it."""
        return self.n_bytes / traced_bytes - 1


def textbook_rules(config: ModelConfig, *, batch: int, seq: int) -> list[TextbookRule]:
    """All rules for a model, those that know of activations for one micro-batch."""
    n = count_parameters(config).total
    model = 4 * n  # in fp32
    listed = listed_activations(config, batch=batch, seq=seq)
    return [
        TextbookRule(
            "16 bytes a parameter",
            "weights 4, gradients 4, AdamW 8: a write-up of CS336 assignment 1",
            16 * n,
        ),
        TextbookRule(
            "24 bytes a parameter",
            "4 and 20 more: lecture slides, from DeepLearning.AI, Generative AI with LLMs",
            24 * n,
        ),
        TextbookRule("2 x model", "a web guide", 2 * model, "inference"),
        TextbookRule(
            "4 x model", "a web guide, and Hugging Face's accelerate estimate-memory", 4 * model
        ),
        TextbookRule(
            "1.2 x model",
            "EleutherAI 2023, Transformer Math 101; accelerate's note on inference",
            model * 6 // 5,
            "inference",
        ),
        *korthikanti(config, batch=batch, seq=seq),
        TextbookRule("16 N + 4 N_act", "a write-up of CS336 assignment 1", 16 * n + 4 * listed),
    ]


def korthikanti(config: ModelConfig, *, batch: int, seq: int) -> list[TextbookRule]:
    """What the blocks keep in 16 bits, with dropout, d_ff = 4 h, and no fused attention.

    Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer
    Models", equation 2 for one layer without parallelism, and table 2; times all layers.
    """
    stream = config.n_layers * seq * batch * config.d_model
    scores = 5 * config.n_layers * config.n_heads * seq**2 * batch
    rules = {
        "s b h (34 + 5 a s / h)": ("equation 2", 34 * stream + scores),
        "34 s b h": ("table 2, selective recomputation", 34 * stream),
        "2 s b h": ("table 2, full recomputation", 2 * stream),
    }
    return [
        TextbookRule(name, f"Korthikanti et al. 2022, {where}", n_bytes, "blocks")
        for name, (where, n_bytes) in rules.items()
    ]


def listed_activations(config: ModelConfig, *, batch: int, seq: int) -> int:
    """The numbers in the write-up's list: 20 B T D + 2 B H T² for each block, and the logits."""
    stream = batch * seq * config.d_model
    pairs = batch * config.n_heads * seq**2
    return config.n_layers * (20 * stream + 2 * pairs) + stream + batch * seq * config.known_vocab
