"""Published models that people compare, and how many parameters each of them has.

Some of them our Transformer cannot build: mixtures of experts, blocks with one norm, other gates.
Their counts need only a little more than a `ModelConfig` says.

Each shape is from the config released with the weights (`shape_source`); tests build the same
models in Hugging Face's code and count what they hold.
"""

import re
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from modelwright.accounting.parameters import (
    ParameterCount,
    count_parameters,
    parameters_per_norm,
)
from modelwright.model.config import ModelConfig
from modelwright.model.presets import presets


@dataclass(frozen=True, kw_only=True)
class Published:
    """How many parameters the maker says the model has, as printed."""

    total: str
    source: str
    counts: Literal["all", "outside embeddings"] = "all"
    active: str | None = None  # of a mixture of experts, for one token
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CatalogueModel:
    """A published model: a shape of ours, and what such a shape does not say."""

    name: str
    maker: str
    shape: ModelConfig  # the model itself, or its nearest; the MLP is that of one expert
    shape_source: str
    n_experts: int = 1  # MLPs in a block, with a router before them if there are several
    active_experts: int = 1  # of them, those that one token passes through
    norms_per_block: int = 2
    unlike_ours: tuple[str, ...] = ()  # what our Transformer has not; empty where it is the model
    published: Published | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.active_experts <= self.n_experts:
            raise ValueError(
                f"active_experts is {self.active_experts}, but a token passes through at least one "
                f"and at most all of n_experts = {self.n_experts}"
            )
        if self.norms_per_block not in (1, 2):
            raise ValueError(f"norms_per_block is {self.norms_per_block}; choose 1 or 2")
        if (self.n_experts, self.norms_per_block) != (1, 2) and not self.unlike_ours:
            raise ValueError(
                f"{self.name} has n_experts = {self.n_experts} and norms_per_block = "
                f"{self.norms_per_block}, which our Transformer has not; say so in unlike_ours"
            )


def component_parameters(model: CatalogueModel, *, active: bool = False) -> ParameterCount:
    """Parameters by component; those of the router are among the MLP's.

    Args:
        active: whether to count only the experts that one token passes through, not all of them.
            Everything else is active, the embeddings too.
    """
    shape, count = model.shape, count_parameters(model.shape)
    n_experts = model.active_experts if active else model.n_experts
    n_missing_norms = (2 - model.norms_per_block) * shape.n_layers
    return replace(
        count,
        mlp=n_experts * count.mlp + router_parameters(model),
        norms=count.norms - n_missing_norms * parameters_per_norm(shape),
    )


def total_parameters(model: CatalogueModel) -> int:
    """All the numbers that the model holds, a shared matrix once."""
    return component_parameters(model).total


def active_parameters(model: CatalogueModel) -> int:
    """The numbers that one token meets: of the experts, only those that it passes through."""
    return component_parameters(model, active=True).total


def router_parameters(model: CatalogueModel) -> int:
    """Numbers that choose the experts: in each block, a matrix without bias from the stream."""
    if model.n_experts == 1:
        return 0
    return model.shape.n_layers * model.shape.d_model * model.n_experts


def weight_matrix_parameters(model: CatalogueModel) -> int:
    """The count of one who adds up the weight matrices, the output's even where it is shared.

    Left out are biases, norms and the table of positions.
    """
    matrices = replace(
        model.shape,
        bias=False,
        norm="none",
        qk_norm=False,
        positions="none",
        tie_embeddings=False,
    )
    return total_parameters(replace(model, shape=matrices))


def parameters_as_published(model: CatalogueModel) -> int:
    """Our count of what the published figure counts.

    Raises:
        ValueError: if none is published.
    """
    if model.published is None:
        raise ValueError(f"no figure is published for {model.name}; use total_parameters")
    count = component_parameters(model)
    if model.published.counts == "outside embeddings":
        return count.attention + count.mlp + count.norms
    return count.total


def rounded_like(n_parameters: int, figure: str) -> str:
    """Write a count with the unit and to the last digit of a printed figure, such as "46.7B".

    Zeros before the unit are not taken for digits: "70B" is written to the nearest ten billion.

    Raises:
        ValueError: if the figure is not a positive number, perhaps with a unit K, M, B or T.
    """
    parts = re.fullmatch(r"(\d[\d,]*)(?:\.(\d+))?([KMBT]?)", figure)
    if parts is None or not figure.strip("0.,KMBT"):
        raise ValueError(f"{figure!r} is no figure to round to; one is '46.7B' or '1,558M'")
    whole, decimals, unit = parts[1].replace(",", ""), parts[2] or "", parts[3]
    n_zeros = 0 if decimals else len(whole) - len(whole.rstrip("0"))
    last_digit = Decimal(1).scaleb(n_zeros - len(decimals))
    in_units = Decimal(n_parameters) / 1000 ** " KMBT".index(unit or " ")
    rounded = in_units.quantize(last_digit, rounding=ROUND_HALF_UP)
    return (f"{rounded:,f}" if "," in figure else f"{rounded:f}") + unit


def _of_preset(preset: str) -> ModelConfig:
    return ModelConfig(**presets[preset])


def _gpt2(size: str, figure: str, in_the_paper: str) -> CatalogueModel:
    return CatalogueModel(
        name=f"GPT-2 {size}",
        maker="OpenAI",
        shape=_of_preset(f"gpt2-{size.lower()}"),
        shape_source="hparams.json of the weights that github.com/openai/gpt-2 downloads",
        published=Published(
            total=figure,
            source="the name of the weights in github.com/openai/gpt-2",
            note=f"The paper's table 2 prints {in_the_paper}; its counts were wrong, says OpenAI.",
        ),
    )


def _llama(generation: str, size: str, repository: str, paper: str) -> CatalogueModel:
    return CatalogueModel(
        name=f"Llama {generation} {size}",
        maker="Meta",
        shape=_of_preset(f"llama-{generation}-{size.lower()}"),
        shape_source=f"config.json of {repository}",
        published=Published(total=size, source=paper),
    )


_llama_2_paper = 'Touvron et al. 2023, "Llama 2", table 1'
_llama_3_paper = 'Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 3'
_mistral_shape = _of_preset("mistral-7b")

catalogue: dict[str, CatalogueModel] = {
    "gpt2-small": _gpt2("small", "124M", "117M"),
    "gpt2-medium": _gpt2("medium", "355M", "345M"),
    "gpt2-large": _gpt2("large", "774M", "762M"),
    "gpt2-xl": _gpt2("XL", "1558M", "1542M"),
    "gpt3-175b": CatalogueModel(
        name="GPT-3 175B",
        maker="OpenAI",
        shape=_of_preset("gpt3-175b"),
        shape_source='Brown et al. 2020, "Language Models are Few-Shot Learners", table 2.1',
        unlike_ours=("every second layer attends in a narrow band",),
        published=Published(
            total="174,600M",
            source='Brown et al. 2020, "Language Models are Few-Shot Learners", table D.1',
            note="Table 2.1 prints 175.0B. Biases, norms and a shared output matrix are GPT-2's; "
            "its weights are not released.",
        ),
    ),
    "llama-2-7b": _llama("2", "7B", "meta-llama/Llama-2-7b-hf", _llama_2_paper),
    "llama-2-13b": _llama("2", "13B", "meta-llama/Llama-2-13b-hf", _llama_2_paper),
    "llama-2-70b": _llama("2", "70B", "meta-llama/Llama-2-70b-hf", _llama_2_paper),
    "llama-3-8b": _llama("3", "8B", "meta-llama/Meta-Llama-3-8B", _llama_3_paper),
    "llama-3-70b": _llama("3", "70B", "meta-llama/Meta-Llama-3-70B", _llama_3_paper),
    "mistral-7b": CatalogueModel(
        name="Mistral 7B",
        maker="Mistral AI",
        shape=_mistral_shape,
        shape_source="config.json of mistralai/Mistral-7B-v0.1",
        published=Published(
            total="7B",
            source='Jiang et al. 2023, "Mistral 7B", abstract',
            note="The announcement at mistral.ai says 7.3B; the released weights are 7.2B.",
        ),
    ),
    "mixtral-8x7b": CatalogueModel(
        name="Mixtral 8x7B",
        maker="Mistral AI",
        shape=replace(_mistral_shape, window=None, rope_theta=1_000_000.0),
        shape_source="config.json of mistralai/Mixtral-8x7B-v0.1",
        n_experts=8,
        active_experts=2,
        unlike_ours=("mixture of experts",),
        published=Published(
            total="46.7B",
            active="12.9B",
            source='mistral.ai, "Mixtral of experts", December 2023',
            note="Not eight times 7B: the experts share everything but the MLP.",
        ),
    ),
    "mixtral-8x22b": CatalogueModel(
        name="Mixtral 8x22B",
        maker="Mistral AI",
        shape=replace(
            _mistral_shape,
            context=65_536,
            d_model=6144,
            n_layers=56,
            n_heads=48,
            d_ff=16_384,
            window=None,
            rope_theta=1_000_000.0,
        ),
        shape_source="config.json of mistral-community/Mixtral-8x22B-v0.1",
        n_experts=8,
        active_experts=2,
        unlike_ours=("mixture of experts",),
        published=Published(
            total="141B",
            active="39B",
            source='mistral.ai, "Cheaper, Better, Faster, Stronger", April 2024',
            note="The instructed version has a larger vocabulary, of 32,768 tokens.",
        ),
    ),
    "gemma-7b": CatalogueModel(
        name="Gemma 7B",
        maker="Google",
        shape=ModelConfig(
            vocab_size=256_000,
            context=8192,
            d_model=3072,
            n_layers=28,
            n_heads=16,
            d_head=256,
            d_ff=24_576,
            norm_epsilon=1e-6,
        ),
        shape_source="config.json of google/gemma-7b",
        unlike_ours=(
            "the MLP's gate is a GELU",
            "the embedding is multiplied by the root of its width",
            "norms scale by one plus their weight",
        ),
        published=Published(
            total="7,751,248,896",
            counts="outside embeddings",
            source='Gemma Team 2024, "Gemma", table 2',
            note="The name's 7B leaves out the embedding, and rounds down. The table prints "
            "786,825,216 for that: 256,128 rows, where the released one has 256,000.",
        ),
    ),
    "dbrx": CatalogueModel(
        name="DBRX",
        maker="Databricks",
        shape=ModelConfig(
            vocab_size=100_352,
            context=32_768,
            d_model=6144,
            n_layers=40,
            n_heads=48,
            n_kv_heads=8,
            d_ff=10_752,
            norm="layernorm",
            rope_theta=500_000.0,
            tie_embeddings=False,
        ),
        shape_source="config.json of databricks/dbrx-base",
        n_experts=16,
        active_experts=4,
        unlike_ours=("mixture of experts", "queries, keys and values are clipped"),
        published=Published(
            total="132B",
            active="36B",
            source='databricks.com, "Introducing DBRX", March 2024',
        ),
    ),
    "command-r": CatalogueModel(
        name="Command R",
        maker="Cohere",
        shape=ModelConfig(
            vocab_size=256_000,
            context=131_072,  # its model_max_length; max_position_embeddings is a smaller table's
            d_model=8192,
            n_layers=40,
            n_heads=64,
            d_ff=22_528,
            norm="layernorm",
            rope_theta=8_000_000.0,
        ),
        shape_source="config.json of CohereForAI/c4ai-command-r-v01",
        norms_per_block=1,
        unlike_ours=(
            "attention and MLP read the same norm and are added together",
            "rotary positions turn neighbouring numbers",
            "logits are scaled",
        ),
        published=Published(total="35B", source="model card of CohereForAI/c4ai-command-r-v01"),
    ),
}
