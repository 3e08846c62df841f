"""An evaluation from its files to its results, however often it is broken off in between."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelwright.checkpoint.bundle import Bundle
from modelwright.evaluation.asking import questions_for
from modelwright.evaluation.encoding import require_fitting
from modelwright.evaluation.items import Outcome
from modelwright.evaluation.record import ScoreRecord
from modelwright.evaluation.results import TaskResult
from modelwright.evaluation.scoring import Scorer
from modelwright.evaluation.tasks import Task, TaskFile
from modelwright.evaluation.text import (
    TextScore,
    Window,
    default_stride,
    documents_of,
    portions_of,
    score_windows,
    text_sha256,
    windows,
)
from modelwright.runtime.files import sha256_of
from modelwright.runtime.progress import Listener, Progress, nobody


def never() -> bool:
    """For work that nobody wants to stop."""
    return False


@dataclass(frozen=True)
class TextResult:
    """How surprised a model was by a text."""

    path: Path
    sha256: str
    stride: int
    score: TextScore
    partial: str  # why it is not that of the whole text; empty if it is

    def facts(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "stride": self.stride,
            "status": "partial" if self.partial else "full",
            "partial": self.partial or None,
            **(self.score.facts() if self.score.n_tokens else {}),
        }


def fingerprint_of(folder: Path) -> str:
    """A sha256 of a model's files: its weights, config and tokenizer."""
    import hashlib

    names = sorted(
        path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".json")
    )
    skipped = {"optimizer.safetensors", "state.json", "manifest.json"}
    parts = [f"{name} {sha256_of(folder / name)}" for name in names if name not in skipped]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass
class Evaluation:
    """One model being evaluated.

    Attributes:
        name: what it is called where progress is shown; left out, its folder's name.
        averaged: whether its weights are the moving average.
        records: folder for what is scored already; it is forgotten by `forget_records`.
    """

    bundle: Bundle
    records: Path
    name: str = ""
    averaged: bool = False
    batch_tokens: int | None = None
    on_progress: Listener = nobody
    is_stopped: Callable[[], bool] = never
    _opened: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_fitting(self.bundle.tokenizer, self.bundle.model.config)
        self.scorer = Scorer(self.bundle.model, batch_tokens=self.batch_tokens)
        self.fingerprint = fingerprint_of(self.bundle.folder)

    def task(self, task: Task, file: TaskFile) -> TaskResult:
        """Score the items of a file; what is missing then was broken off.

        Raises:
            CannotBeAsked: saying why.
        """
        bundle = self.bundle
        questions = questions_for(
            task,
            file,
            bundle.tokenizer,
            context=bundle.model.config.context,
            who=self.name or str(bundle.folder),
            instead="leave out one of the two",
        )
        n_items = len(questions.encoded)
        with self._record({"task": task.name, "sha256": file.sha256}) as record:
            known = {
                place: _outcome(value) for place, value in record.known.items() if place < n_items
            }
            phase = f"{self.name or bundle.folder.name}: {task.name}"
            self._tell(phase, len(known), n_items, "items")
            for found in questions.answers(self.scorer, set(known)):
                record.add({place: _values(outcome) for place, outcome in found.items()})
                known |= found
                self._tell(phase, len(known), n_items, "items")
                if self.is_stopped():
                    break
        return questions.result(known)

    def text(
        self, path: Path, *, stride: int | None = None, limit: int | None = None
    ) -> TextResult:
        """Score the documents of a text; a limit takes the first ones."""
        tokenizer, context = self.bundle.tokenizer, self.bundle.model.config.context
        stride = default_stride(context) if stride is None else stride
        documents = documents_of(path, tokenizer)
        sha256, limiter = text_sha256(path), Limiter(limit)
        total, partial = TextScore(), ""
        phase = f"{self.name or self.bundle.folder.name}: {path.name}"
        question = {"text": sha256, "stride": stride, "limit": limit}
        with self._record(question) as record:
            found = (
                window
                for document in limiter.of(documents)
                for window in windows(document, tokenizer, context=context, stride=stride)
            )
            for number, portion in enumerate(portions_of(found)):
                if self.is_stopped():
                    partial = f"PARTIAL: broken off after {total.n_documents:,} documents"
                    break
                total += self._portion(record, number, portion)
                self._tell(phase, total.n_tokens, None, "tokens")
        if limiter.left_out and not partial:
            partial = f"PARTIAL: the first {total.n_documents:,} documents"
        return TextResult(path, sha256, stride, total, partial)

    def forget_records(self) -> None:
        """Remove what was kept for going on, once all results are where they belong."""
        while self._opened:
            self._opened.pop()()

    def _portion(self, record: ScoreRecord, number: int, portion: list[Window]) -> TextScore:
        if number not in record.known:
            record.add({number: asdict(score_windows(self.scorer, portion))})
        kept = record.known[number]
        return TextScore(**kept | {"squares": tuple(kept["squares"])})

    def _record(self, question: dict[str, Any]) -> ScoreRecord:
        model = {
            "model": self.fingerprint,
            "averaged": self.averaged,
            "dtype": str(self.bundle.model.dtype),
            "device": self.scorer.device.type,
        }
        record = ScoreRecord(self.records, model | question)
        self._opened.append(record.forget)
        return record

    def _tell(self, phase: str, done: int, total: int | None, unit: str) -> None:
        self.on_progress(Progress(phase=phase, done=done, total=total, unit=unit))


class Limiter:
    """Takes the first of some things, and knows whether there were more."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.left_out = False

    def of(self, things: Iterable[Any]) -> Iterator[Any]:
        """The first ones."""
        for number, thing in enumerate(things):
            if number == self.limit:
                self.left_out = True
                return
            yield thing


def _values(outcome: Outcome) -> list[Any]:
    return [*vars(outcome).values()]


def _outcome(values: list[Any]) -> Outcome:
    logprobs, greedy, n_tokens, truncated = values
    return Outcome(tuple(logprobs), tuple(greedy), tuple(n_tokens), truncated)
