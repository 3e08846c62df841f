"""`modelwright train`, held up at a place where a signal is to reach it.

    python held_up_train.py PLACE READY ARGUMENTS...

makes the file READY when it is there. PLACE is "evaluating", where each batch takes long; "waiting"
for a batch that never comes; "tokenising", where the text is cut into tokens; "stepping", in a step
that takes long; "training", which is not held up.
"""

import itertools
import sys
import time
from pathlib import Path
from typing import Any

from modelwright.cli import app
from modelwright.data.loader import Loader
from modelwright.evaluation import perplexity
from modelwright.training import assembly, loop

calls = itertools.count()


def hold_up(place: str, ready: Path) -> None:
    def arrive() -> None:
        ready.touch()

    if place == "evaluating":
        loss = perplexity.next_token_loss

        def slow_loss(*arguments: Any, **named: Any) -> Any:
            arrive()
            time.sleep(0.2)
            return loss(*arguments, **named)

        perplexity.next_token_loss = slow_loss
    elif place == "waiting":
        make = Loader._make

        def make_two(self: Loader, step: int) -> Any:
            if step == 2:
                arrive()
                time.sleep(1000)
            return make(self, step)

        Loader._make = make_two
    elif place == "tokenising":
        build = assembly.build_data

        def slow_build(data: Any, tokenizer: Any, on_progress: Any) -> Any:
            def listen(progress: Any) -> None:
                on_progress(progress)
                if progress.phase == "cutting text into tokens":
                    arrive()
                    time.sleep(1000)

            return build(data, tokenizer, listen)

        assembly.build_data = slow_build
    elif place in ("stepping", "training"):
        step = loop.take_step

        def slow_step(*arguments: Any, **named: Any) -> Any:
            if next(calls) == 2:
                arrive()
                time.sleep(1000 if place == "stepping" else 0)
            return step(*arguments, **named)

        loop.take_step = slow_step


if __name__ == "__main__":
    hold_up(sys.argv[1], Path(sys.argv[2]))
    sys.argv = ["modelwright", "train", *sys.argv[3:]]
    app.main()
