import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.accounting.scaling import (
    LossLaw,
    besiroglu,
    chinchilla_tokens,
    hoffmann,
    kaplan_parameters,
    kaplan_size_exponent,
    kaplan_tokens,
    loss_laws,
)

laws = st.sampled_from(sorted(loss_laws)).map(loss_laws.__getitem__)
sizes = st.floats(1e6, 1e13)


def test_the_rule_of_twenty_gives_gpt2_small_two_and_a_half_billion_tokens():
    assert chinchilla_tokens(124_475_904) == 2_489_518_080


@pytest.mark.parametrize(
    ("law", "n_parameters", "published"),
    [
        (hoffmann, 124_475_904, 28.2),
        (besiroglu, 124_475_904, 25.2),
        (hoffmann, 70_000_000_000, 109.4),
        (besiroglu, 70_000_000_000, 18.4),
    ],
)
def test_tokens_per_parameter_are_those_of_the_published_constants(
    law: LossLaw, n_parameters: int, published: float
):
    assert round(law.optimal_tokens(n_parameters) / n_parameters, 1) == published


def test_chinchilla_has_the_loss_that_the_printed_constants_give():
    # Recomputed by hand: 1.69 + 406.4 / 70e9^0.34 + 410.7 / 1.4e12^0.28.
    assert hoffmann.loss(70e9, 1.4e12) == pytest.approx(1.936645, abs=1e-6)


@given(law=laws, n_parameters=sizes, factor=st.floats(0.2, 5))
def test_no_other_split_of_the_same_work_has_a_lower_loss(
    law: LossLaw, n_parameters: float, factor: float
):
    n_tokens = law.optimal_tokens(n_parameters)
    elsewhere = law.loss(n_parameters * factor, n_tokens / factor)
    # The optimum is flat, so near it rounding decides.
    assert elsewhere >= law.loss(n_parameters, n_tokens) * (1 - 1e-12)


@given(law=laws, n_parameters=sizes)
def test_the_split_of_a_budget_is_the_optimum_of_its_size(law: LossLaw, n_parameters: float):
    n_tokens = law.optimal_tokens(n_parameters)
    split = law.optimal_split(6 * n_parameters * n_tokens)
    # Powers of large numbers lose a few digits.
    assert split.n_parameters == pytest.approx(n_parameters, rel=1e-9)
    assert split.n_tokens == pytest.approx(n_tokens, rel=1e-9)
    assert split.tokens_per_parameter == pytest.approx(n_tokens / n_parameters, rel=1e-9)
    assert split.loss == pytest.approx(law.loss(n_parameters, n_tokens), rel=1e-12)


@given(law=laws, n_parameters=sizes, n_tokens=sizes, factor=st.floats(1.001, 100))
def test_more_parameters_or_tokens_never_make_the_loss_higher(
    law: LossLaw, n_parameters: float, n_tokens: float, factor: float
):
    loss = law.loss(n_parameters, n_tokens)
    assert law.E < law.loss(n_parameters * factor, n_tokens) < loss
    assert law.E < law.loss(n_parameters, n_tokens * factor) < loss


@given(flops=st.floats(1e17, 1e27))
def test_kaplan_gives_more_of_a_larger_budget_to_parameters_than_either_law(flops: float):
    growth = 10**kaplan_size_exponent
    for law in loss_laws.values():
        assert law.optimal_parameters(10 * flops) < growth * law.optimal_parameters(flops)


def test_a_tenth_less_loss_takes_four_times_kaplan_s_parameters():
    assert round(kaplan_parameters.growth_for(0.9), 2) == 4.00
    assert round(kaplan_parameters.growth_for(1 / 1.1), 2) == 3.50


def test_kaplan_s_growth_is_what_his_law_gives():
    for law in (kaplan_parameters, kaplan_tokens):
        grown = 1e9 * law.growth_for(0.8)
        assert law.loss(grown) == pytest.approx(0.8 * law.loss(1e9), rel=1e-12)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"loss_ratio is 0, but a loss stays above 0; .* 0\.9"):
        kaplan_parameters.growth_for(0)


def test_a_law_by_which_more_is_worse_is_refused():
    with pytest.raises(ValueError, match=r"alpha of a loss law is -0.3; choose a number above 0"):
        LossLaw(source="", E=1.7, A=400, B=400, alpha=-0.3, beta=0.3)


@pytest.mark.parametrize("beta", [1e-4, 1e-3, 0.3])
@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 0.3])
@pytest.mark.parametrize(("A", "B"), [(1e-300, 1e300), (0.6, 0.05), (1e300, 1e-300)])
def test_a_law_that_hardly_falls_still_has_a_finite_split(
    alpha: float, beta: float, A: float, B: float
):
    law = LossLaw(source="made up", E=2.3, A=A, B=B, alpha=alpha, beta=beta)
    split = law.optimal_split(1e18)
    assert 1 <= split.n_parameters < math.inf and 0 < split.n_tokens < math.inf
    assert math.isfinite(split.loss)
