import pytest

from modelwright.training.config import EvaluationConfig


def test_no_limit_of_validation_tokens_is_a_setting():
    assert EvaluationConfig(n_tokens=0).n_tokens == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every_steps": 0}, "evaluation.every_steps is 0; the least is 1"),
        ({"n_tokens": -1}, "evaluation.n_tokens is -1; the least is 1, and 0 reads all"),
    ],
)
def test_evaluation_settings_out_of_range_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**wrong)
