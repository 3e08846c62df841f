"""Records the loss curve that `test_loss_curve.py` compares with.

    PYTHONPATH=tests python tests/golden/record_loss_curve.py

writes `loss_curve.json` anew. Do so only where a change is meant to move the curve, and say in the
commit by how much it moved and why.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import small
from modelwright.runtime.device import choose_device, describe_machine
from modelwright.training.config import RunConfig
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import train

recorded = Path(__file__).with_name("loss_curve.json")


def config(folder: Path, *changes: str) -> RunConfig:
    """Sixty steps of a small model on the built-in stories."""
    settings = [
        "data.stories_bytes=200_000",
        "tokenizer.vocab_size=400",
        "model.context=32",
        "model.d_model=48",
        "model.n_layers=2",
        "model.n_heads=4",
        "model.n_kv_heads=2",
        "training.n_steps=60",
        "training.batch_tokens=512",
        "training.micro_batch=8",
        "training.attention=math",
        "training.tensorboard=false",
        "schedule.peak_lr=0.01",
        "evaluation.every_steps=20",
        "evaluation.n_tokens=2048",
        "samples.every_steps=60",
        "checkpoints.every_steps=60",
    ]
    return small.run_config(folder, *settings, *changes)


def curve(folder: Path, *changes: str) -> dict[str, Any]:
    """The losses of each step, and of the validation text by the step after which it was read."""
    train(config(folder, *changes), folder / "run")
    records = read_metrics(folder / "run")
    return {
        "losses": [record["loss"] for record in records if "loss" in record],
        "validation_losses": {
            str(record["step"]): record["validation_loss"]
            for record in records
            if "validation_loss" in record
        },
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = curve(Path(folder))
    machine = describe_machine(choose_device("cpu"))
    found = {"recorded_with": f"torch {machine.torch} on {machine.processor}"} | found
    recorded.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
