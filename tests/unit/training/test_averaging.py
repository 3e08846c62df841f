import pytest
import torch

import small
from modelwright.training.averaging import Average


def test_the_average_is_the_sum_that_the_formula_gives():
    model = small.model(seed=0)
    average = Average(model, 0.9)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for seed in (1, 2, 3):
        model = small.model(seed=seed)
        average.update(model, torch.ones(()))
        for name, parameter in model.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.detach()
    for name, tensor in average.weights.items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-6)


def test_a_decay_of_nearly_nothing_follows_the_weights_and_a_long_one_stays():
    first, last = small.model(seed=0), small.model(seed=1)
    for decay, near in ((1e-9, last), (1 - 1e-9, first)):
        average = Average(first, decay)
        average.update(last, torch.ones(()))
        for name, tensor in average.weights.items():
            assert torch.allclose(tensor, near.get_parameter(name), rtol=0, atol=1e-6)


def test_a_step_that_was_not_taken_leaves_it_as_it_was():
    average = Average(small.model(seed=0), 0.5)
    average.update(small.model(seed=1), torch.zeros(()))
    for name, parameter in small.model(seed=0).named_parameters():
        assert torch.equal(average.weights[name], parameter)


def test_it_starts_as_a_copy_that_the_model_does_not_move():
    model = small.model()
    average = Average(model, 0.5)
    before = {name: tensor.clone() for name, tensor in average.weights.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(average.weights[name], before[name]) for name in before)


@pytest.mark.parametrize("breaks_off", [False, True])
def test_it_is_lent_to_the_model_for_a_block(breaks_off: bool):
    model = small.model(seed=0)
    average = Average(model, 0.5)
    average.update(small.model(seed=1), torch.ones(()))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    averaged = {name: tensor.clone() for name, tensor in average.weights.items()}
    try:
        with average.in_place_of(model):
            for name, parameter in model.named_parameters():
                assert torch.equal(parameter, averaged[name])
            if breaks_off:
                raise RuntimeError
    except RuntimeError:
        pass
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert torch.equal(average.weights[name], averaged[name])


def test_a_loaded_average_goes_on():
    model = small.model(seed=0)
    average, later = Average(model, 0.5), Average(model, 0.5)
    average.update(small.model(seed=1), torch.ones(()))
    later.load(average.weights)
    for one in (average, later):
        one.update(small.model(seed=2), torch.ones(()))
    for name, tensor in average.weights.items():
        assert torch.equal(tensor, later.weights[name])
