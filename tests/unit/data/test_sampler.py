import pytest

from modelwright.data.sampler import batch_samples


def samples(**changes) -> list[int]:
    settings = {"seed": 1, "step": 3, "batch_size": 8, "n_samples": 100} | changes
    return batch_samples(**settings).tolist()


def test_the_order_of_a_seed_stays_what_it_was():
    # Recorded from the edition in numpy that came before the compiled one: a run of then goes on.
    assert samples() == [62, 72, 74, 71, 36, 3, 46, 59]
    assert samples(step=12, n_samples=10) == [2, 6, 4, 5, 8, 7, 4, 6]


def test_a_rank_has_its_rows_of_the_batch():
    assert samples(rank=1, world_size=4) == samples()[2:4]


@pytest.mark.parametrize("change", [{"seed": 2}, {"step": 4}, {"n_samples": 1000}], ids=str)
def test_each_setting_changes_the_samples(change: dict):
    assert samples(**change) != samples()


def test_a_batch_may_be_longer_than_an_epoch():
    drawn = samples(step=0, batch_size=10, n_samples=4)
    assert [sorted(drawn[:4]), sorted(drawn[4:8])] == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(("batch_size", "nearest"), [(6, 8), (1, 4), (9, 8)])
def test_a_batch_that_does_not_divide_over_the_ranks_is_refused(batch_size: int, nearest: int):
    message = (
        f"batch_size is {batch_size} sequences, .* world_size = 4 ranks; the nearest number that "
        f"does is {nearest}, so set training.batch_tokens to {nearest} times model.context"
    )
    with pytest.raises(ValueError, match=message):
        samples(batch_size=batch_size, world_size=4)
    assert len(samples(batch_size=nearest, world_size=4)) == nearest // 4


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_that_is_not_there_is_refused(rank: int):
    with pytest.raises(ValueError, match=f"rank is {rank}, .* choose from 0 to 3"):
        samples(rank=rank, world_size=4)
