"""Loss landscapes on a GPU: the same directions as elsewhere, and weights restored to the bits."""

from pathlib import Path

import pytest
import torch

import small
from modelwright.checkpoint.bundle import distinct_weights
from modelwright.data.loader import Chunks
from modelwright.evaluation.directions import random_direction
from modelwright.evaluation.landscape import precision_of, survey
from modelwright.evaluation.landscape_map import LandscapeConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


def test_directions_are_the_same_whatever_the_device():
    here = distinct_weights(small.model())
    there = {name: weight.cuda() for name, weight in here.items()}
    drawn = random_direction(there, seed=1, axis=0, with_vectors=True)
    for name, direction in random_direction(here, seed=1, axis=0, with_vectors=True).items():
        assert drawn[name].is_cuda
        assert torch.equal(drawn[name].cpu(), direction)


def test_a_map_agrees_with_that_of_a_processor_and_leaves_the_weights(tmp_path: Path):
    cut = Chunks(small.tokens(400), 11)
    config = LandscapeConfig(points=5, n_tokens=0)
    here, there = small.model(), small.model().cuda()
    before = {name: weight.clone() for name, weight in distinct_weights(there).items()}
    ours, theirs = (
        survey(model, cut, config, tmp_path / name) for model, name in ((here, "a"), (there, "b"))
    )
    for a, b in zip(ours.points, theirs.points, strict=True):
        assert a.at == b.at
        assert a.loss == pytest.approx(b.loss, rel=1e-4)  # sums in another order
    for name, weight in distinct_weights(there).items():
        assert torch.equal(weight, before[name])


def test_products_in_tf32_are_named_for_what_they_are(monkeypatch: pytest.MonkeyPatch):
    model = small.model()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert precision_of(model) == "float32"  # a processor has no such products
    assert precision_of(model.cuda()) == "tf32"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    assert precision_of(model) == "float32"
