import torch

from modelwright.training.precision import LossScale, NoLossScale, make_loss_scale


def test_an_overflow_halves_it_down_to_the_least():
    scale = LossScale(4.0)
    found = []
    for _ in range(4):
        found.append((scale.value, scale.can_fall()))
        scale.after_step(overflowed=True)
    assert found == [(4.0, True), (2.0, True), (1.0, False), (1.0, False)]


def test_it_doubles_after_enough_steps_without_an_overflow():
    scale = LossScale(8.0, patience=3)
    values = []
    for overflowed in (False, False, True, False, False, False, False, False, False):
        scale.after_step(overflowed=overflowed)
        values.append(scale.value)
    assert values == [8, 8, 4, 4, 4, 8, 8, 8, 16]


def test_it_goes_on_where_its_facts_were_taken():
    scale = LossScale(8.0, patience=5)
    for _ in range(3):
        scale.after_step(overflowed=False)
    later = LossScale(patience=5)
    later.restore(scale.facts())
    for one in (scale, later):
        one.after_step(overflowed=False)
        one.after_step(overflowed=False)
    assert later.value == scale.value == 16.0
    assert later.facts() == scale.facts()


def test_other_formats_keep_one():
    scale = make_loss_scale(torch.float32)
    for _ in range(3000):
        scale.after_step(overflowed=False)
    scale.after_step(overflowed=True)
    assert scale.value == 1.0
    assert not scale.can_fall()
    assert make_loss_scale(torch.bfloat16).value == 1.0
    assert make_loss_scale(torch.float16).value == 2.0**16


def test_a_run_that_changes_its_number_format_takes_no_scale_along():
    narrow, wide = LossScale(1024.0), NoLossScale()
    wide.restore(narrow.facts())
    assert wide.value == 1.0
    assert not wide.can_fall()
    begun = LossScale()
    begun.restore(NoLossScale().facts())
    assert begun.value == 2.0**16
