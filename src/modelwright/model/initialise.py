"""Initial weights by a written rule, every parameter from the same named stream."""

import math

import torch
from torch import nn

from modelwright.model.transformer import Transformer
from modelwright.runtime.seeding import torch_generator


@torch.no_grad()
def initialise(model: Transformer, *, seed: int) -> None:
    """Fill every parameter in place.

    Matrices and embeddings are normal with one standard deviation, sqrt(2 / (5 d_model)), and the
    two projections that write to the residual stream with a smaller one; norms scale by one;
    biases are zero. `docs/log.md` compares it with GPT-2's fixed 0.02, which it is near at
    GPT-2's width and which is too small for narrow models.

    Source: Nguyen & Salazar 2019, "Transformers without Tears", section 2.2 (SmallInit), for the
    base; Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3,
    for the scaled projections.

    Args:
        seed: the run's seed; the draws come from its stream "weights".
    """
    generator = torch_generator(seed, "weights")
    base_std = math.sqrt(2 / (5 * model.config.d_model))
    # Each layer adds to the stream twice, so its variance would otherwise grow with depth.
    residual_std = base_std / math.sqrt(2 * model.config.n_layers)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        else:
            writes_to_stream = name.endswith(("attention.output.weight", "mlp.down.weight"))
            std = residual_std if writes_to_stream else base_std
            # Drawn on the CPU, so that every device starts from the same weights.
            parameter.copy_(torch.empty(parameter.shape).normal_(0, std, generator=generator))
