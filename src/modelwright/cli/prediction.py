"""What a run's plan said, kept from before its first step until it ends or runs out of memory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelwright.training.assembly import Prepared
    from modelwright.training.config import RunConfig
    from modelwright.training.out_of_memory import OutOfMemory


class Prediction:
    """The plan of a run, which never keeps the run itself from going on.

    It is made before the first step: on a processor it takes a second, most of that for loading,
    and for the largest presets a few; making it beside the steps would slow just those down.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.prepared: Prepared | None = None

    def settle(self, config: "RunConfig") -> "RunConfig":
        """The config with what it left to the plan, and a word about it."""
        if config.training.recompute != "auto":
            return config
        from modelwright.planning.foresight import settle_here

        settled = settle_here(config)
        chosen = f"training.recompute = {settled.training.recompute!r}"
        if settled.training.recompute_every > 1:
            chosen += f", training.recompute_every = {settled.training.recompute_every}"
        note(f"the plan settles {chosen}")
        return settled

    def make(self, prepared: "Prepared") -> None:
        """Write `plan.json`; or a note why there is none."""
        from modelwright.planning.foresight import keep_plan, plan_file

        self.prepared = prepared
        try:
            keep_plan(self.run_folder, prepared)
        except Exception as error:  # noqa: BLE001 - no prediction is worth a run
            note(f"no {plan_file}: {in_words(error)}")

    def compare(self) -> None:
        """Write `verify.json` after the last step; or a note why there is none."""
        from modelwright.planning.verify import verify_file, verify_run
        from modelwright.runtime.device import describe_machine

        if self.prepared is None:
            return
        try:
            verify_run(self.run_folder, describe_machine(self.prepared.device))
        except Exception as error:  # noqa: BLE001 - the run itself is done and saved
            note(f"no {verify_file}: {in_words(error)}")

    def explain(self, error: "OutOfMemory") -> None:
        """Say where the memory went, and what would fit."""
        from modelwright.planning.out_of_memory import explain_out_of_memory

        if self.prepared is None:
            return
        print("\nout of memory; looking for what fits ...\n", file=sys.stderr)
        try:
            print(explain_out_of_memory(self.prepared, error) + "\n", file=sys.stderr)
        except Exception as other:  # noqa: BLE001 - the first error is the one to be shown
            note(f"no explanation: {in_words(other)}")


def note(text: str) -> None:
    """Say something that changes nothing."""
    print(f"note: {text}", file=sys.stderr)


def in_words(error: Exception) -> str:
    """An error in a sentence; of one that only a bug can cause, its name too."""
    first = str(error).partition("\n")[0]
    return first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"
