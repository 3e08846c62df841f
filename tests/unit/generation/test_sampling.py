import math

import pytest
import torch

from modelwright.generation.config import SamplingConfig
from modelwright.generation.sampling import (
    chance,
    drawn,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_tokens,
    penalised,
)

logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]])).expand(4000, 4)
chances = torch.tensor([chance(seed=7, place=place) for place in range(4000)], dtype=torch.float64)


def shares(config: SamplingConfig) -> list[float]:
    drawn = next_tokens(logits, config, chances)
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


def test_min_p_keeps_a_fraction_of_the_best():
    assert close(shares(SamplingConfig(temperature=1, top_p=1, min_p=0.6)), [4 / 7, 3 / 7, 0, 0])
    assert keep_min_p(logits[:1], 1.0).isinf().tolist() == [[False, True, True, True]]


def test_min_p_is_applied_after_temperature_and_top_p():
    # 0.2 is half of 0.4, but at half the temperature a quarter.
    narrow = SamplingConfig(temperature=0.5, top_p=1, min_p=0.5)
    assert close(shares(narrow), [16 / 25, 9 / 25, 0, 0])


def test_a_penalty_makes_seen_tokens_less_likely_whatever_their_sign():
    seen = torch.tensor([[True, True, False, False]])
    changed = penalised(torch.tensor([[2.0, -2.0, 2.0, -2.0]]), seen, 2.0)
    assert changed.tolist() == [[1.0, -4.0, 2.0, -2.0]]
    greedy = SamplingConfig(temperature=0, repetition_penalty=3)
    row = torch.tensor([[2.0, 1.0]])
    one = torch.zeros(1, dtype=torch.float64)
    assert next_tokens(row, greedy, one, torch.tensor([[True, False]])).tolist() == [1]


def test_the_number_of_a_place_is_one_of_its_seed_and_place():
    numbers = [chance(1, place) for place in range(2000)]
    assert numbers == [chance(1, place) for place in range(2000)]
    assert len(set(numbers)) == len(numbers)
    assert numbers[:50] != [chance(2, place) for place in range(50)]
    assert all(0 <= number < 1 for number in numbers)
    counts = torch.histc(torch.tensor(numbers), bins=10, min=0, max=1)
    # The 99.99th percentile of chi squared with nine degrees of freedom.
    assert float(((counts - 200) ** 2 / 200).sum()) < 33.7


def test_neighbouring_places_and_seeds_are_not_alike():
    numbers = torch.tensor([[chance(seed, place) for place in range(200)] for seed in range(20)])
    along, across = numbers[:, 1:], numbers[1:]
    for a, b in ((numbers[:, :-1], along), (numbers[:-1], across)):
        together = torch.stack((a.flatten(), b.flatten()))
        # Four standard deviations of the correlation of so many independent pairs.
        assert abs(float(torch.corrcoef(together)[0, 1])) < 4 / math.sqrt(together.shape[1])


def test_the_ends_of_the_range_give_tokens_that_were_kept():
    row = torch.log(torch.tensor([[0.0, 0.5, 0.5, 0.0]])).expand(2, 4)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert drawn(row, ends).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**setting)
