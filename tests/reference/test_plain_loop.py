"""A whole training loop written out in PyTorch's own words agrees with ours, loss by loss."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import small
from modelwright.data.loader import Loader
from modelwright.model.transformer import Transformer
from modelwright.training.assembly import Prepared, fresh_state, make_loader, prepare
from modelwright.training.attempt import take_step
from modelwright.training.config import RunConfig

n_steps = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    prepare(small.run_config(place))
    return place


def config(folder: Path, *changes: str) -> RunConfig:
    settings = [
        f"training.n_steps={n_steps}",
        "training.batch_tokens=128",  # eight sequences
        "training.attention=math",
        "schedule.warmup=5",
        "schedule.peak_lr=0.01",
    ]
    return small.run_config(folder, *settings, *changes)


def plain_losses(prepared: Prepared, loader: Loader) -> Iterator[tuple[float, float]]:
    """Loss and gradient norm of each step: warm-up, cosine to a tenth, AdamW, clipping to 1."""
    model = prepared.model
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        foreach=False,
    )
    for step in range(n_steps):
        if step < 5:
            rate = 0.01 * (step + 1) / 5
        else:
            progress = (step - 5) / (n_steps - 6)
            rate = 0.001 + 0.009 * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = loader.batch(step)
        logits = model(batch.inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item(), norm.item()


def our_losses(prepared: Prepared, loader: Loader) -> Iterator[tuple[float, float]]:
    state = fresh_state(prepared)
    for _ in range(n_steps):
        metrics, _ = take_step(state, prepared.config, loader)
        yield metrics["loss"], metrics["gradient_norm"]


def in_doubles(prepared: Prepared) -> Prepared:
    """The same model with the same weights, in fp64 throughout."""
    model = Transformer(prepared.model.config, dtype=torch.float64).double()
    model.load_state_dict(prepared.model.state_dict())
    return dataclasses.replace(prepared, model=model)


# In fp32 the sums are rounded in another order, at first in the seventh digit of a loss. That the
# two loops mean the same shows in fp64, where fifty steps leave twelve digits alike.
@pytest.mark.parametrize(("doubles", "tolerance"), [(False, 1e-6), (True, 1e-12)])
@pytest.mark.parametrize("micro_batch", [8, 3])
def test_fifty_steps_have_the_losses_of_a_plain_loop(
    folder: Path, micro_batch: int, doubles: bool, tolerance: float
):
    plain = prepare(config(folder))
    ours = prepare(config(folder, f"training.micro_batch={micro_batch}"))
    if doubles:
        plain, ours = in_doubles(plain), in_doubles(ours)
    with make_loader(plain) as loader:
        expected = list(plain_losses(plain, loader))
    with make_loader(ours) as loader:
        found = list(our_losses(ours, loader))
    assert expected[0][0] > expected[-1][0] + 1  # it learns, so the steps matter
    for ours_at, plain_at in zip(found, expected, strict=True):
        assert ours_at == pytest.approx(plain_at, rel=tolerance)
