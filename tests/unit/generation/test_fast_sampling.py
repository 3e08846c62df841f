"""Drawing without sorting a vocabulary, and row by row on a device: the tokens of the definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelwright.generation import sampling
from modelwright.generation.config import SamplingConfig
from modelwright.generation.row_drawing import (
    RowSettings,
    Stages,
    draw_rows,
    keep_top_k_of_rows,
)
from modelwright.generation.sampling import (
    drawn,
    keep_top_k,
    keep_top_p,
    keep_top_p_by_sorting,
    narrowed,
    next_tokens,
    nucleus,
)


def random_logits(
    seed: int, n_vocab: int, spread: float, grain: float, n_rows: int = 1
) -> torch.Tensor:
    """Logits of a spread, many of them equal if the grain is coarse."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(n_rows, n_vocab, generator=generator)
    return (logits / grain).round() * grain if grain else logits


shapes = {
    "seed": st.integers(0, 2**20),
    "n_vocab": st.sampled_from([1, 2, 50, 3000]),
    "spread": st.sampled_from([0.0, 0.01, 1.0, 5.0, 40.0]),
    "grain": st.sampled_from([0.0, 0.1, 2.0]),
}
top_ps = st.one_of(st.floats(1e-6, 1, exclude_max=True), st.sampled_from([0.5, 0.9, 0.95]))


@given(top_p=top_ps, **shapes)
def test_a_nucleus_is_that_of_the_sorted_row(
    seed: int, n_vocab: int, spread: float, grain: float, top_p: float
):
    row = random_logits(seed, n_vocab, spread, grain)
    kept = nucleus(row[0], top_p)
    expected = ~keep_top_p_by_sorting(row.double(), top_p)[0].isinf()
    # Only tokens with which the sum just reaches the share, up to its rounding.
    chances = row[0].double().softmax(-1)
    order = row[0].sort(stable=True).indices.flip(0)
    likelier = torch.empty_like(chances)
    likelier[order] = chances[order].cumsum(0) - chances[order]
    assert ((likelier - top_p).abs()[kept != expected] < 1e-6).all()
    assert kept.any()


def test_of_equal_ones_at_the_end_those_with_the_larger_ids_are_kept():
    logits = torch.log(torch.tensor([0.4, 0.1, 0.1, 0.1, 0.1, 0.2]))
    for top_p, expected in ((0.65, [0, 4, 5]), (0.75, [0, 3, 4, 5]), (0.3, [0])):
        assert nucleus(logits, top_p).nonzero()[:, 0].tolist() == expected
        kept = ~keep_top_p_by_sorting(logits[None], top_p)[0].isinf()
        assert kept.nonzero()[:, 0].tolist() == expected


def test_a_large_vocabulary_is_not_sorted(monkeypatch: pytest.MonkeyPatch):
    row = random_logits(1, sampling.n_bins + 1, 1.0, 0.0)
    expected = keep_top_p_by_sorting(row, 0.9)
    monkeypatch.delattr(sampling, "keep_top_p_by_sorting")
    assert keep_top_p(row, 0.9).equal(expected)


def test_logits_that_are_infinite_are_left_out():
    row = random_logits(1, 5000, 1.0, 0.0)
    row[0, ::2] = -torch.inf
    kept = nucleus(row[0], 0.99)
    assert not kept[::2].any() and kept[1::2].any()


configs = [
    SamplingConfig(temperature=0),
    SamplingConfig(temperature=1.0, top_p=1.0),
    SamplingConfig(),
    SamplingConfig(temperature=2.0, top_p=0.3),
    SamplingConfig(top_k=7, top_p=1.0),
    SamplingConfig(top_k=40, top_p=0.8),
    SamplingConfig(top_k=10**6, top_p=0.9),
    SamplingConfig(top_k=30, top_p=0.9, min_p=0.2),
    SamplingConfig(min_p=0.5, top_p=1.0),
    SamplingConfig(repetition_penalty=4.0, top_k=3),
    SamplingConfig(repetition_penalty=4.0, temperature=0),
]


@given(config=st.sampled_from(configs[1:-1]), chance=st.floats(0, 1, exclude_max=True), **shapes)
def test_a_row_alone_gets_the_token_of_the_definition(
    seed: int, n_vocab: int, spread: float, grain: float, config: SamplingConfig, chance: float
):
    row = random_logits(seed, n_vocab, spread, grain)
    chances = torch.tensor([chance], dtype=torch.float64)
    token = int(next_tokens(row, config, chances))
    kept = narrowed(row, config)
    sums = kept.softmax(-1).double().cumsum(-1)[0]
    # That token, or its neighbour where the number lies between them up to rounding.
    if token != int(drawn(kept, chances)):
        assert not kept[0, token].isinf()
        edges = (float(sums[token]), float(sums[token] - kept.softmax(-1)[0, token]))
        assert min(abs(chance * float(sums[-1]) - edge) for edge in edges) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_vocab", [300, 5000])
def test_rows_of_all_settings_get_the_tokens_they_get_alone(dtype: torch.dtype, n_vocab: int):
    for seed in range(8):
        logits = random_logits(seed, n_vocab, 2.0, 0.0, n_rows=len(configs)).to(dtype)
        generator = torch.Generator().manual_seed(seed)
        chances = torch.rand(len(configs), dtype=torch.float64, generator=generator)
        seen = torch.rand(len(configs), n_vocab, generator=generator) < 0.3
        settings = RowSettings.neutral(len(configs) + 2, logits.device)
        settings.fill(configs)
        found = draw_rows(
            logits, settings.of(len(configs)), Stages.of(configs), chances, seen
        ).tolist()
        for row, config in enumerate(configs):
            one = slice(row, row + 1)
            alone = next_tokens(logits[one], config, chances[one], seen[one])
            assert found[row] == int(alone), config


def test_settings_without_a_stage_get_the_same_tokens_with_it():
    """What others in the batch ask for changes nothing for a row that does not."""
    logits = random_logits(3, 500, 2.0, 0.0, n_rows=4)
    chances = torch.tensor([0.0, 0.3, 0.9, 1 - 2**-53], dtype=torch.float64)
    seen = torch.rand(4, 500, generator=torch.Generator().manual_seed(0)) < 0.5
    for config in configs[:4]:
        settings = RowSettings.neutral(4, logits.device)
        settings.fill([config] * 4)
        own = draw_rows(logits, settings, Stages.of([config]), chances, None)
        everything = Stages.of(configs)
        assert draw_rows(logits, settings, everything, chances, seen).equal(own)


def test_the_stages_are_those_that_any_text_asks_for():
    greedy, plain, most = configs[0], configs[1], SamplingConfig(top_k=5, min_p=0.1)
    none = Stages(greedy=True, sampled=False, top_k=False, top_p=False, min_p=False, penalty=False)
    assert Stages.of([greedy]) == none
    # What narrows a choice that is greedy is not looked at.
    assert Stages.of([SamplingConfig(temperature=0, top_k=3, min_p=0.5)]) == none
    assert Stages.of([plain]) == Stages(
        greedy=False, sampled=True, top_k=False, top_p=False, min_p=False, penalty=False
    )
    assert Stages.of([greedy, most, configs[-1]]) == Stages(
        greedy=True, sampled=True, top_k=True, top_p=True, min_p=True, penalty=True
    )


def test_top_k_of_a_row_is_its_own():
    logits = random_logits(2, 50, 1.0, 0.5, n_rows=4)
    found = keep_top_k_of_rows(logits, torch.tensor([0, 1, 7, 99]))
    expected = [logits[:1], keep_top_k(logits[1:2], 1), keep_top_k(logits[2:3], 7), logits[3:]]
    assert found.equal(torch.cat(expected))


def test_draws_from_a_nucleus_follow_its_chances():
    n, logits = 4000, random_logits(5, 4200, 3.0, 0.0)
    chances = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    config = SamplingConfig(temperature=1.0, top_p=0.5)
    tokens = torch.cat([next_tokens(logits, config, chance[None]) for chance in chances])
    kept = keep_top_p_by_sorting(logits, 0.5).softmax(-1)[0]
    counts = torch.bincount(tokens, minlength=4200)
    assert counts[kept == 0].sum() == 0
    # Evenly spaced numbers: each token's share is right to within one of them at either end.
    assert (counts - n * kept).abs().max() <= 2
    assert math.isclose(float(kept.sum()), 1, abs_tol=1e-5)
