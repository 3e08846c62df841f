import time
from pathlib import Path

import pytest
import torch

import small
from modelwright.data.loader import Batch
from modelwright.training.loop import TrainingState, take_step
from modelwright.training.optimizers import OptimizerConfig, make_optimizer


class Slow:
    """A loader whose batches take a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def batch(self, step: int) -> Batch:
        time.sleep(self.seconds)
        ids = small.ids(batch=4)
        return Batch(ids, ids.roll(-1, 1), torch.arange(4).numpy())


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_the_wait_for_data_is_on_record(tmp_path: Path, seconds: float):
    model = small.model()
    state = TrainingState(model, make_optimizer(model, OptimizerConfig()))
    metrics = take_step(state, small.run_config(tmp_path), Slow(seconds))  # type: ignore[arg-type]
    assert seconds <= metrics["data_seconds"] < seconds + 0.1
    assert metrics["data_seconds"] <= metrics["seconds"] + 1e-3
