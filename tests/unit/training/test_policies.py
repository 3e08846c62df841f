import math
from typing import Any

import pytest

from modelwright.training.policies import PoliciesConfig, batch_number, spike_threshold


def test_a_spike_is_so_many_times_the_median():
    config = PoliciesConfig(spike_factor=3.0, spike_window=5)
    assert spike_threshold(config, [1.0, 2.0, 100.0]) == 6.0
    assert spike_threshold(PoliciesConfig(spike_factor=4.0, spike_window=5), [2.0]) == 8.0


def test_only_the_last_losses_count():
    config = PoliciesConfig(spike_factor=2.0, spike_window=5)
    assert spike_threshold(config, [100.0] * 50 + [1.0] * 5) == 2.0
    assert spike_threshold(config, [100.0] * 3 + [1.0] * 2) == 200.0


@pytest.mark.parametrize(("n_losses", "is_known"), [(0, False), (9, False), (10, True)])
def test_few_losses_make_no_spike(n_losses: int, is_known: bool):
    threshold = spike_threshold(PoliciesConfig(), [1.0] * n_losses)
    assert threshold == (2.0 if is_known else math.inf)


@pytest.mark.parametrize("left_out", [[], [0], [3], [3, 4], [4, 3], [0, 1, 2], [2, 9], [7, 2, 3]])
def test_steps_learn_from_every_batch_but_those_left_out_in_order(left_out: list[int]):
    numbers = [batch_number(step, left_out) for step in range(20)]
    expected = [number for number in range(40) if number not in left_out][:20]
    assert numbers == expected


def test_leaving_out_a_later_batch_changes_no_earlier_step():
    before = [batch_number(step, [3]) for step in range(10)]
    after = [batch_number(step, [3, before[7]]) for step in range(10)]
    assert before[:7] == after[:7]
    assert before[7] not in after


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spike_factor": 1.0}, "policies.spike_factor is 1.0, but a spike is above the median"),
        ({"spike_window": 4}, "policies.spike_window is 4; the least is 5"),
        ({"most_rewinds": -1}, "policies.most_rewinds is -1; the least is 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PoliciesConfig(**wrong)


def test_a_checkpoint_to_go_back_to_is_wanted_where_a_policy_may_go_back():
    assert not PoliciesConfig().may_rewind
    assert PoliciesConfig(not_finite="rewind").may_rewind
    assert PoliciesConfig(spike="rewind").may_rewind
