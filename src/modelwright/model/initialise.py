"""Initial weights by a written rule, drawn from named streams of the run's seed."""

import math

import torch
from torch import Tensor, nn

from modelwright.model.config import InitialConfig
from modelwright.model.transformer import Transformer
from modelwright.model.width import initial_factor, role_of
from modelwright.runtime.seeding import torch_generator


@torch.no_grad()
def initialise(
    model: Transformer,
    *,
    seed: int,
    config: InitialConfig | None = None,
    base_width: int | None = None,
) -> None:
    """Fill every parameter in place.

    Matrices and embeddings are normal with one standard deviation (`base_std`), and the two
    projections that write to the residual stream with a smaller one; norms scale by one; biases and
    the padding of the vocabulary are zero. `docs/log.md` compares the rules: GPT-2's fixed 0.02 is
    near the other at GPT-2's width and too small for narrow models.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3,
    for the scaled projections.

    Args:
        seed: the run's seed; the draws come from its stream "weights", or by name from a stream
            "weights/NAME" for each parameter.
        config: the rule; None takes the default one.
        base_width: from which the sizes of weights follow by the rule of `width.py`; None is the
            model's own.
    """
    config = config or InitialConfig()
    generator = torch_generator(seed, "weights")
    width = model.config.d_model
    ratio = (base_width or width) / width
    std = base_std(config, base_width or width)
    # Each layer adds to the stream twice, so its variance would otherwise grow with depth.
    residual_std = std / math.sqrt(2 * model.config.n_layers)
    for name, parameter in model.named_parameters():
        role = role_of(name, n_axes=parameter.ndim, is_tied=model.config.tie_embeddings)
        factor = initial_factor(role, ratio)
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.constant_(parameter, factor)
        else:
            writes_to_stream = name.endswith(("attention.output.weight", "mlp.down.weight"))
            is_by_token = name in ("embedding.weight", "unembedding.weight")
            n_drawn = model.config.known_vocab if is_by_token else len(parameter)
            # Drawn on the CPU, so that every device starts from the same weights.
            drawn = torch.zeros(parameter.shape)
            if config.draws == "by_name":
                generator = torch_generator(seed, f"weights/{name}")
            size = factor * (residual_std if writes_to_stream else std)
            draw(drawn[:n_drawn], config, size, generator)
            parameter.copy_(drawn)


def base_std(config: InitialConfig, d_model: int) -> float:
    """The standard deviation of matrices that do not write to the residual stream.

    Source of "small": Nguyen & Salazar 2019, "Transformers without Tears", section 2.2.
    """
    if config.std is not None:
        return config.std
    return math.sqrt(2 / (5 * d_model)) if config.rule == "small" else 0.02


def draw(tensor: Tensor, config: InitialConfig, std: float, generator: torch.Generator) -> None:
    """Fill a tensor in place."""
    if config.rule == "truncated":
        nn.init.trunc_normal_(tensor, std=std, a=-3 * std, b=3 * std, generator=generator)
    else:
        tensor.normal_(0, std, generator=generator)
