"""Which settings of a run may change when it goes on."""

from collections.abc import Sequence
from pathlib import Path

from modelwright.config.differences import Difference

# A change of one of these would make another model of the weights, or another order of the text.
fixed_settings = (
    "seed",
    "base_width",
    "data.",
    "tokenizer.",
    "model.",
    "initial.",
    "optimizer.kind",
    "training.batch_tokens",
    "training.cut",
    "training.init_from",
)
free_settings = ("data.folder", "model.dropout")


def require_same_run(run_folder: Path, changes: Sequence[Difference]) -> None:
    """Refuse to go on with settings under which the run would have been another from the start.

    Raises:
        ValueError: listing each such change.
    """
    refused = [
        change
        for change in changes
        if change.path.startswith(fixed_settings) and change.path not in free_settings
    ]
    refused += [
        change
        for change in changes
        if change.path == "training.average_decay" and not (change.before and change.after)
    ]
    if refused:
        raise ValueError(
            f"{run_folder} cannot go on with other settings than it began with: "
            f"{'; '.join(map(str, refused))}; put them back, or begin a new run from its weights "
            f"with --set training.init_from={run_folder} --out NEW"
        )
