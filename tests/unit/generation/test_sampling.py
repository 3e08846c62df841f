import math

import pytest
import torch

from modelwright.generation.config import SamplingConfig
from modelwright.generation.sampling import keep_top_k, keep_top_p, next_token

logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]])).expand(4000, 4)


def shares(config: SamplingConfig) -> list[float]:
    drawn = next_token(logits, config, torch.Generator().manual_seed(0))
    return (torch.bincount(drawn, minlength=4) / len(drawn)).tolist()


def close(shares: list[float], expected: list[float]) -> bool:
    # Four standard deviations of a share of 4000 draws.
    return all(
        abs(a - b) < 4 * math.sqrt(0.25 / 4000) for a, b in zip(shares, expected, strict=True)
    )


def test_draws_follow_the_chances():
    assert close(shares(SamplingConfig(temperature=1, top_p=1)), [0.4, 0.3, 0.2, 0.1])


def test_temperature_raises_the_chances_to_a_power():
    squared = [0.16, 0.09, 0.04, 0.01]
    expected = [chance / sum(squared) for chance in squared]
    assert close(shares(SamplingConfig(temperature=0.5, top_p=1)), expected)


def test_temperature_zero_takes_the_likeliest():
    assert shares(SamplingConfig(temperature=0)) == [1, 0, 0, 0]


def test_top_k_of_one_is_greedy():
    assert shares(SamplingConfig(top_k=1, top_p=1)) == [1, 0, 0, 0]


def test_top_k_keeps_that_many():
    assert close(shares(SamplingConfig(temperature=1, top_k=2, top_p=1)), [4 / 7, 3 / 7, 0, 0])
    assert keep_top_k(logits[:1], 9).equal(logits[:1])


def test_top_p_keeps_the_fewest_that_reach_it():
    assert close(shares(SamplingConfig(temperature=1, top_p=0.65)), [4 / 7, 3 / 7, 0, 0])
    assert close(shares(SamplingConfig(temperature=1, top_p=0.75)), [4 / 9, 3 / 9, 2 / 9, 0])
    assert shares(SamplingConfig(temperature=1, top_p=1e-6)) == [1, 0, 0, 0]


def test_top_p_sorts_each_row_by_itself():
    rows = torch.log(torch.tensor([[0.1, 0.9], [0.9, 0.1]]))
    assert keep_top_p(rows, 0.5).isinf().tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**setting)
