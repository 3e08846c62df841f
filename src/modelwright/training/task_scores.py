"""Scores on tasks during training: the same questions, asked the same way as by `evaluate`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelwright.evaluation.asking import Questions, questions_for
from modelwright.evaluation.items import Outcome
from modelwright.evaluation.perplexity import BrokenOff
from modelwright.evaluation.results import TaskResult, finite
from modelwright.evaluation.scoring import Scorer, usual_batch_tokens
from modelwright.evaluation.tasks import Task, TaskFile, find_file, read_task, tasks
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import Listener, Progress
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.attempt import TrainingState
from modelwright.training.config import TasksConfig


def task_files(config: TasksConfig) -> list[tuple[Task, TaskFile]]:
    """The tasks that a run is scored on, with their items.

    Raises:
        FileNotFoundError, ValueError: if a file is missing, or holds no items of its task.
    """
    found: list[tuple[Task, TaskFile]] = []
    for name in config.names:
        assert config.data is not None, "the config asks for it where there are names"
        path = find_file(tasks[name], Path(config.data), folder_setting="tasks.data")
        found.append((tasks[name], read_task(tasks[name], path, limit=config.limit)))
    return found


def task_questions(
    files: Sequence[tuple[Task, TaskFile]], tokenizer: Tokenizer, *, context: int
) -> tuple[Questions, ...]:
    """The items as the run's model reads them.

    Raises:
        CannotBeAsked: if an answer alone is longer than the context.
    """
    return tuple(
        questions_for(
            task,
            file,
            tokenizer,
            context=context,
            who="the model of this run",
            instead=f"take {task.name} out of tasks.names",
        )
        for task, file in files
    )


class ScoreTasks:
    """Score the weights as they are; a request to stop breaks it off."""

    name = "tasks"

    def __init__(
        self,
        questions: Sequence[Questions],
        *,
        every_steps: int,
        stop: StopRequest,
        on_progress: Listener,
    ) -> None:
        self.every_steps = every_steps
        self.questions = questions
        self.stop = stop
        self.on_progress = on_progress

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        # What a step of training has room for, scoring has too: it keeps nothing for a way back.
        portion = state.micro_batch * state.model.config.context
        most = usual_batch_tokens(state.device)
        scorer = Scorer(
            state.model, batch_tokens=min(most, portion) if state.device.type == "cuda" else most
        )
        try:
            return {"tasks": {q.task.name: self._score(q, scorer, state) for q in self.questions}}
        except BrokenOff:
            return {}

    def _score(self, questions: Questions, scorer: Scorer, state: TrainingState) -> dict[str, Any]:
        began = time.perf_counter()
        outcomes: dict[int, Outcome] = {}
        for found in questions.answers(scorer):
            outcomes |= found
            self.on_progress(
                Progress(
                    phase=questions.task.name,
                    done=len(outcomes),
                    total=len(questions.encoded),
                    unit="items",
                    note=f"after {state.step:,} steps",
                )
            )
            if self.stop.requested:
                raise BrokenOff
        return recorded(questions.result(outcomes)) | {
            "seconds": round(time.perf_counter() - began, 3)
        }


def recorded(result: TaskResult) -> dict[str, Any]:
    """What the record of a run keeps of a result: the scores, and what they are worth."""
    scores: dict[str, Any] = {}
    for metric in result.task.metrics:
        score = result.score(metric)
        assert score is not None, "there is no empty task"
        scores[metric] = {"value": finite(score.value), "stderr": finite(score.stderr)}
    return {
        "scores": scores,
        "chance_percent": result.chance,
        "n_items": result.n_items,
        "partial": result.partial or None,
        "n_truncated": result.n_truncated,
        "sha256": result.file.sha256,
    }
