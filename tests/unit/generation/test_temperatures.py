from pathlib import Path

import pytest

import small
from modelwright.checkpoint.bundle import Bundle
from modelwright.generation.config import SamplingConfig
from modelwright.generation.requests import Request
from modelwright.generation.temperatures import AtTemperature, write_at
from modelwright.generation.variety import fewest_to_measure, variety_of_groups


def at(temperature: float, n_texts: int) -> AtTemperature:
    bundle = Bundle(Path(), small.model(vocab_size=300).eval(), small.tokenizer(300))
    sampling = SamplingConfig(temperature=temperature, top_p=1.0)
    return write_at(
        bundle,
        temperature,
        [
            Request(prompt="One", max_tokens=6, sampling=sampling, seed=seed)
            for seed in range(n_texts)
        ],
    )


def test_a_few_texts_are_written_and_not_measured():
    found = at(0.5, fewest_to_measure - 1)
    assert len(found.texts) == fewest_to_measure - 1
    assert found.n_groups == 0 and found.measures == {}
    assert (found.prompt, found.temperature) == ("One", 0.5)
    assert 0 < found.n_tokens <= 6


def test_more_are_measured_in_groups():
    found = at(1.0, 40)
    assert found.n_groups == 2
    assert found.measures == variety_of_groups(found.texts, n_groups=2)


def test_without_chance_all_texts_are_the_same_and_with_much_of_it_none():
    cold, hot = at(0.0, fewest_to_measure), at(5.0, fewest_to_measure)
    assert len(set(cold.texts)) == 1
    assert len(set(hot.texts)) == fewest_to_measure


@pytest.mark.parametrize("n_texts", [2, fewest_to_measure])
def test_it_comes_back_from_json(n_texts: int):
    found = at(1.0, n_texts)
    assert AtTemperature.from_json(found.to_json()) == found
