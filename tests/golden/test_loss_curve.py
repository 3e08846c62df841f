"""The losses of a small run stay what they were when they were recorded."""

import importlib.util
import json
from pathlib import Path

import pytest

script = Path(__file__).with_name("record_loss_curve.py")
spec = importlib.util.spec_from_file_location("record_loss_curve", script)
assert spec is not None and spec.loader is not None
record_loss_curve = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record_loss_curve)

# Other kernels and portions, which sum in another order as other processors do, moved a loss by at
# most 6e-7 of itself; a learning rate that is one percent higher moves it by 3e-3.
tolerance = 1e-5


def test_the_loss_curve_is_the_recorded_one(tmp_path: Path):
    expected = json.loads(record_loss_curve.recorded.read_text())
    found = record_loss_curve.curve(tmp_path)
    assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
    assert found["validation_losses"] == pytest.approx(expected["validation_losses"], rel=tolerance)
