"""The loss around a trained model: along random directions, or on the way to other weights.

Read `directions.py` for where the weights go, `landscape_map.py` for which points are measured and
what is made of them, and `landscape_file.py` for how a map is kept.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelwright.checkpoint.bundle import distinct_weights
from modelwright.data.loader import Cut
from modelwright.evaluation.directions import (
    Around,
    Between,
    Way,
    Weights,
    excursion,
    random_direction,
)
from modelwright.evaluation.landscape_file import open_points
from modelwright.evaluation.landscape_map import Landscape, LandscapeConfig, Point
from modelwright.evaluation.perplexity import BrokenOff, validation_loss
from modelwright.model.transformer import Transformer
from modelwright.runtime.progress import Listener, Progress, nobody

# Tokens that go through the model at once: on a GPU as much as makes its kernels busy.
tokens_at_once = {"cuda": 32_768, "cpu": 4096}
phase = "measuring the landscape"


def survey(
    model: Transformer,
    cut: Cut,
    config: LandscapeConfig,
    folder: Path,
    *,
    end: Weights | None = None,
    about: Mapping[str, str] | None = None,
    on_progress: Listener = nobody,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Landscape:
    """Measure the loss at every point of a map that the folder does not have yet.

    Each point is written to the folder as soon as it is known, so that after a stop, or a crash,
    the same call goes on; the file is then the same as without. The model computes as it is, in its
    own precision, with sums in fp32; its weights are as before afterwards, whatever happened.

    Args:
        cut: the text, of which the first `config.n_tokens` are read at every point.
        end: the weights at the other end of a path, by the names of the model's own.
        about: what people call the model and the text; kept with the map.
        is_stopped: asked between batches.

    Returns:
        The whole map.

    Raises:
        ValueError: if the folder holds a map of that kind of other settings, weights or text, or
            `end` is missing or does not fit.
        BrokenOff: if it was stopped; the points so far are in the folder.
    """
    _require_end(model, config, end)
    settings = settings_of(model, cut, config, end)
    rows = max(1, tokens_at_once.get(model.embedding.weight.device.type, 4096) // cut.context)
    with open_points(folder, config, settings=settings, about=about or {}) as points:
        missing = [at for at in config.coordinates if at not in points]
        total = len(points) + len(missing)
        on_progress(Progress(phase=phase, done=len(points), total=total, unit="points"))
        if not missing:
            return points.landscape
        with excursion(model, way_of(model, config, end)) as go_to:
            for at in missing:
                if is_stopped():
                    raise BrokenOff
                go_to(at)
                loss = validation_loss(
                    model,
                    cut,
                    max_tokens=config.n_tokens,
                    batch_size=rows,
                    is_stopped=is_stopped,
                ).loss
                points.add(Point(at, loss))
                note = f"loss {loss:.3f}"
                on_progress(
                    Progress(phase=phase, done=len(points), total=total, unit="points", note=note)
                )
        return points.landscape


def way_of(model: Transformer, config: LandscapeConfig, end: Weights | None) -> Way:
    """Where the model's weights are at a map's coordinates."""
    if end is not None:
        return Between(end)
    return Around(
        [
            random_direction(
                distinct_weights(model),
                seed=config.seed,
                axis=axis,
                with_vectors=config.with_vectors,
            )
            for axis in range(2 if config.kind == "plane" else 1)
        ]
    )


def settings_of(
    model: Transformer, cut: Cut, config: LandscapeConfig, end: Weights | None
) -> dict[str, Any]:
    """Everything that decides the losses of a map, as plain values."""
    device = model.embedding.weight.device.type
    return dataclasses.asdict(config) | {
        "weights": hash_of_weights(distinct_weights(model)),
        "end": None if end is None else hash_of_weights(end),
        "text": hash_of_text(cut, config.n_tokens),
        "precision": precision_of(model),
        "device": device,
    }


def precision_of(model: Transformer) -> str:
    """The number format of a model's matrix products; on a GPU those of float32 may be in TF32."""
    on_gpu = model.embedding.weight.device.type == "cuda"
    if on_gpu and model.dtype == torch.float32 and torch.get_float32_matmul_precision() == "high":
        return "tf32"
    return str(model.dtype).removeprefix("torch.")


def hash_of_weights(weights: Weights) -> str:
    """The sha256 of weights with their names, in the order of these."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}\n".encode())
        flat = weights[name].detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_of_text(cut: Cut, n_tokens: int) -> str:
    """The sha256 of what the model is asked, the borders of documents included."""
    n_samples = len(cut) if not n_tokens else min(len(cut), max(1, n_tokens // cut.context))
    digest = hashlib.sha256()
    for sample in range(n_samples):
        for part in cut.batch(np.array([sample])).tensors():
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def _require_end(model: Transformer, config: LandscapeConfig, end: Weights | None) -> None:
    if (config.kind == "path") != (end is not None):
        raise ValueError(
            "a path needs the weights at its other end, and other maps have none: kind is "
            f"{config.kind!r}, and end was {'left out' if end is None else 'given'}"
        )
    own = distinct_weights(model)
    if end is None:
        return
    odd = [
        name for name in sorted(own.keys() | end.keys()) if _shape(own, name) != _shape(end, name)
    ]
    if odd:
        raise ValueError(
            f"the model at the other end is of another shape: it differs in {', '.join(odd[:4])}; "
            "choose a checkpoint of the same run"
        )


def _shape(weights: Weights, name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None
