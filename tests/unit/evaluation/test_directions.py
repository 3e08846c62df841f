import copy

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.checkpoint.bundle import distinct_weights
from modelwright.evaluation.directions import (
    Around,
    Between,
    excursion,
    normalised_by_filter,
    random_direction,
)


def weights_of(**tensors: Tensor) -> dict[str, Tensor]:
    return tensors


def some_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    scales = torch.logspace(-3, 3, 7)[:, None]
    return {
        "matrix": scales * torch.randn(7, 40, generator=generator),
        "cube": torch.randn(5, 3, 4, generator=generator),
        "bias": torch.randn(9, generator=generator),
    }


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: w.cpu().numpy().tobytes() for name, w in distinct_weights(model).items()}


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights():
    weights = some_weights()
    direction = random_direction(weights, seed=1, axis=0, with_vectors=True)
    for name, first_axis in (("matrix", 7), ("cube", 5), ("bias", 1)):
        ours, theirs = (tensors[name].reshape(first_axis, -1) for tensors in (direction, weights))
        assert torch.allclose(ours.norm(dim=1), theirs.norm(dim=1), rtol=1e-6)
        assert not torch.allclose(ours, theirs)


def test_what_points_the_same_way_as_the_weights_becomes_the_weights():
    matrix = some_weights()["matrix"]
    scaled = torch.logspace(3, -2, 7)[:, None] * matrix
    assert torch.allclose(normalised_by_filter(scaled, matrix), matrix, rtol=1e-6)


def test_a_filter_of_zeros_is_not_moved():
    matrix = some_weights()["matrix"]
    matrix[2] = 0
    direction = random_direction(weights_of(matrix=matrix), seed=1, axis=0)["matrix"]
    assert direction.isfinite().all()
    assert not direction[2].any()
    assert direction[[0, 1, 3]].all()


def test_vectors_move_only_if_that_is_asked_for():
    weights = some_weights()
    assert not random_direction(weights, seed=1, axis=0)["bias"].any()
    assert random_direction(weights, seed=1, axis=0, with_vectors=True)["bias"].all()


def test_a_direction_follows_from_seed_and_axis_and_not_from_the_other_weights():
    weights = some_weights()
    first = random_direction(weights, seed=1, axis=0)
    again = random_direction({"matrix": weights["matrix"]}, seed=1, axis=0)
    assert torch.equal(first["matrix"], again["matrix"])
    for seed, axis in ((2, 0), (1, 1)):
        other = random_direction(weights, seed=seed, axis=axis)
        assert not torch.isclose(first["matrix"], other["matrix"]).any()


def test_the_chance_of_others_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    random_direction(some_weights(), seed=1, axis=0)
    assert torch.equal(before, torch.random.get_rng_state())


class Bowl(nn.Module):
    """Half the squared distance of two weights from fixed points: a loss known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.matrix = nn.Parameter(torch.randn(6, 5, generator=generator).double())
        self.other = nn.Parameter(torch.randn(4, 3, generator=generator).double())
        self.centers = [torch.randn(w.shape, generator=generator).double() for w in self.weights]

    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.matrix, self.other]

    def loss(self) -> float:
        return sum(
            0.5 * float((w.detach() - c).square().sum())
            for w, c in zip(self.weights, self.centers, strict=True)
        )


@pytest.mark.parametrize("second_axis", [0, 1], ids=["the same twice", "two of them"])
def test_the_plane_of_a_quadratic_loss_is_the_closed_form(second_axis: int):
    """Directions are not orthogonal, so their product counts: at worst both are the same."""
    bowl = Bowl()
    weights = distinct_weights(bowl)
    deltas, etas = (random_direction(weights, seed=1, axis=axis) for axis in (0, second_axis))
    theta, delta, eta = (
        torch.cat([tensors[name].flatten() for name in weights])
        for tensors in ({k: w.clone() for k, w in weights.items()}, deltas, etas)
    )
    gap = theta - torch.cat([center.flatten() for center in bowl.centers])
    assert abs(delta @ eta) > 1e-3
    with excursion(bowl, Around([deltas, etas])) as go_to:
        for a, b in ((0.0, 0.0), (0.5, 0.0), (-0.25, 1.0), (2.0, -3.0)):
            go_to((a, b))
            expected = (
                gap @ gap / 2
                + a * (gap @ delta)
                + b * (gap @ eta)
                + a * a * (delta @ delta) / 2
                + a * b * (delta @ eta)
                + b * b * (eta @ eta) / 2
            )
            assert bowl.loss() == pytest.approx(float(expected), rel=1e-12)


def test_a_line_between_weights_is_exact_at_both_ends_and_goes_on_beyond():
    model, other = small.model(seed=1), small.model(seed=2)
    begin, end = bits(model), bits(other)
    start = copy.deepcopy(model.embedding.weight.detach())
    with excursion(model, Between(distinct_weights(other))) as go_to:
        go_to((1.0,))
        assert bits(model) == end
        go_to((0.0,))
        assert bits(model) == begin
        go_to((1.5,))
        expected = start + 1.5 * (other.embedding.weight.detach() - start)
        assert torch.allclose(model.embedding.weight.detach(), expected, atol=1e-6)


def test_tied_weights_have_one_direction_and_move_together():
    model = small.model(tie_embeddings=True)
    direction = random_direction(distinct_weights(model), seed=1, axis=0)
    assert "unembedding.weight" not in direction
    with excursion(model, Around([direction])) as go_to:
        before = model.embedding.weight.detach().clone()
        go_to((1.0,))
        assert model.unembedding.weight is model.embedding.weight
        moved = model.embedding.weight.detach() - before
        assert torch.allclose(moved, direction["embedding.weight"], atol=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_weights_are_restored_to_the_very_bits(fails: bool):
    model = small.model()
    with torch.no_grad():  # values that sums and differences do not bring back
        model.embedding.weight[0, :4] = torch.tensor([-0.0, 1e-42, torch.inf, torch.nan])
    before = bits(model)
    direction = random_direction(distinct_weights(model), seed=1, axis=0, with_vectors=True)
    try:
        with excursion(model, Around([direction])) as go_to:
            go_to((0.3,))
            assert bits(model) != before
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert bits(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_step_of_nothing_changes_no_bit():
    model = small.model()
    with torch.no_grad():
        model.embedding.weight[0, :8] = -0.0  # which a sum with a zero of the other sign changes
    before = bits(model)
    direction = random_direction(distinct_weights(model), seed=1, axis=0)
    with excursion(model, Around([direction, direction])) as go_to:
        go_to((0.7, 0.1))
        go_to((0.0, 0.0))
        assert bits(model) == before
