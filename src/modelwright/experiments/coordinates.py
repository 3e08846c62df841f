"""How large what a model computes is, and how it grows with the width: the coordinate check.

A few steps of models that differ only in their width, on the same tokens. Under a rule that scales
with width, what each part of the model puts out changes by as much at every width; under none, it
changes by the more the wider the model is, which is why a learning rate that was found narrow is
too large for it.

Source: Yang et al. 2021, "Tensor Programs V", appendix D.1.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from modelwright.data.loader import Batch
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer
from modelwright.runtime.seeding import torch_generator
from modelwright.training.config import RunConfig
from modelwright.training.optimizers import make_optimizer
from modelwright.training.step import training_step

parts = ("attention", "mlp", "logits")


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """What one model put out.

    Attributes:
        sizes: by part of the model, for each number of steps from 0 on: root mean square.
        changes: the same of the difference to what it was before the first step.
    """

    width: int
    sizes: Mapping[str, tuple[float, ...]]
    changes: Mapping[str, tuple[float, ...]]


def measure(config: RunConfig, *, n_steps: int = 4) -> Coordinates:
    """Take some steps at the peak of the learning rate on one batch of tokens drawn at random.

    Args:
        config: of which model, initial weights, optimizer, base width and peak rate are used; the
            model has its vocabulary.
    """
    model = Transformer(config.model, attention="plain")
    initialise(model, seed=config.seed, config=config.initial, base_width=config.base_width)
    optimizer = make_optimizer(model, config.optimizer, width_ratio=config.width_ratio)
    generator = torch_generator(config.seed, "coordinates")
    shape = config.batch_size, config.model.context + 1
    tokens = torch.randint(config.model.known_vocab, shape, generator=generator)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    batch = Batch(inputs, targets, np.arange(shape[0]), None, None)
    seen = [outputs_of(model, inputs)]
    for _ in range(n_steps):
        training_step(
            model,
            optimizer,
            batch,
            learning_rate=config.schedule.peak_lr,
            clip_norm=config.optimizer.clip_norm,
            micro_batch=shape[0],
        )
        seen.append(outputs_of(model, inputs))
    return Coordinates(
        width=config.model.d_model,
        sizes={part: tuple(_size(outputs[part]) for outputs in seen) for part in parts},
        changes={
            part: tuple(_size(outputs[part] - seen[0][part]) for outputs in seen) for part in parts
        },
    )


@torch.no_grad()
def outputs_of(model: Transformer, inputs: Tensor) -> dict[str, Tensor]:
    """What the last block's attention and MLP put out, and the logits."""
    found: dict[str, Tensor] = {}
    last = model.blocks[-1]
    with _kept(found, {"attention": last.attention, "mlp": last.mlp}):  # type: ignore[dict-item]
        found["logits"] = model(inputs)
    return found


@contextmanager
def _kept(found: dict[str, Tensor], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[name] = output.detach().clone()

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _size(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def widened(config: RunConfig, width: int) -> RunConfig:
    """The same run at another width, with as many more heads of the same width.

    Raises:
        ValueError: if the width is no whole number of heads.
    """
    model = config.model
    d_head = model.head_width
    if width % d_head:
        nearest = max(1, round(width / d_head)) * d_head
        raise ValueError(
            f"a width of {width} is no whole number of heads of {d_head}; the nearest that is, is "
            f"{nearest}"
        )
    n_heads = width // d_head
    group = model.n_heads // model.key_heads
    d_ff = None if model.d_ff is None else round(model.d_ff * width / model.d_model)
    wide = dataclasses.replace(
        model,
        d_model=width,
        n_heads=n_heads,
        n_kv_heads=None if model.n_kv_heads is None else max(1, n_heads // group),
        d_head=d_head,
        d_ff=d_ff,
    )
    return dataclasses.replace(config, model=wide)


def growth(measured: Sequence[Coordinates], part: str) -> float:
    """The power of the width with which a part's change after the last step grows; 0 is flat."""
    widths = [math.log(one.width) for one in measured]
    changes = [math.log(one.changes[part][-1]) for one in measured]
    return float(np.polyfit(widths, changes, 1)[0])
