"""Shards out of the parts that tasks wrote, in the order of the tasks.

A shard that is finished is written down in `shards.json`, with the place where the next one begins;
the parts before that place are removed. So a build that died goes on after its last whole shard.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelwright.data.shards import SIDES, Shard, ShardWriter, Side, open_shard
from modelwright.data.tasks import part_path
from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.tokenizer import Tokenizer

file_name = "shards.json"


@dataclass
class Place:
    """How many shards are finished, and the task and the document in it that come next."""

    n_shards: int = 0
    task: int = 0
    document: int = 0


class Assembly:
    """Both sides of a build, as far as they are done."""

    def __init__(self, work: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self._work = work
        self._places = _read_places(work)
        self._sides = [
            _Side(work, side, self._places[side], tokenizer, shard_tokens, self._written)
            for side in SIDES
        ]
        self.next_task = min(place.task for place in self._places.values())

    def sides_that_need(self, task: int) -> list[Side]:
        """The sides whose finished shards do not hold all that a task wrote."""
        return [side for side, place in self._places.items() if place.task <= task]

    def add(self, task: int) -> None:
        """Take over what a task wrote; tasks are to come in order, from `next_task` on."""
        assert task == self.next_task
        for side in self._sides:
            side.add(task)
        self.next_task += 1

    def finish(self) -> dict[Side, int]:
        """Write the last shards; the answer says how many there are on each side."""
        for side in self._sides:
            side.finish(self.next_task)
        return {side: place.n_shards for side, place in self._places.items()}

    def discard(self) -> None:
        """Leave no unfinished file behind."""
        for side in self._sides:
            side.discard()

    def _written(self, side: Side, place: Place) -> None:
        """Write down that a shard is finished, and remove the parts that are in it for good."""
        before = self._places[side].task
        self._places[side] = place
        places = {name: asdict(value) for name, value in self._places.items()}
        write_atomically(self._work / file_name, json.dumps(places) + "\n")
        for task in range(before, place.task):
            part_path(self._work, task, side).unlink(missing_ok=True)


def _read_places(work: Path) -> dict[Side, Place]:
    path = work / file_name
    if not path.exists():
        return {side: Place() for side in SIDES}
    content = json.loads(path.read_text())
    return {side: Place(**content[side]) for side in SIDES}


class _Side:
    """The shards of one side."""

    def __init__(
        self,
        work: Path,
        side: Side,
        place: Place,
        tokenizer: Tokenizer,
        shard_tokens: int,
        written: Callable[[Side, Place], None],
    ) -> None:
        self._work = work
        self._side: Side = side
        self._next = replace(place)  # where the shard after the finished ones begins
        self._tokenizer = tokenizer
        self._shard_tokens = shard_tokens
        self._written = written
        self._writer: ShardWriter | None = None

    def add(self, task: int) -> None:
        """Put a task's documents into the shard in hand, and into new ones when that is full."""
        path = part_path(self._work, task, self._side)
        if task < self._next.task or not path.exists():
            return
        part = open_shard(path)
        starts = part.document_starts.astype(np.int64)
        n_documents = len(starts) - 1
        first = self._next.document if task == self._next.task else 0
        while first < n_documents:
            room = self._shard_tokens - (self._writer.n_tokens if self._writer else 0)
            # As many whole documents as still fit; one longer than a shard has one to itself.
            last = int(np.searchsorted(starts, starts[first] + room, side="right")) - 1
            if last <= first and self._writer is not None:
                self._finish_shard(task, first)
                continue
            last = max(last, first + 1)
            self._copy(part, starts, first, last)
            first = last

    def finish(self, n_tasks: int) -> None:
        """Write the last shard."""
        if self._writer is not None:
            self._finish_shard(n_tasks, 0)

    def discard(self) -> None:
        """Drop the shard in hand."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _copy(self, part: Shard, starts: npt.NDArray[np.int64], first: int, last: int) -> None:
        if self._writer is None:
            path = self._work / f"{self._side}-{self._next.n_shards:05}.shard"
            self._writer = ShardWriter(path, self._tokenizer.id_dtype, self._tokenizer.fingerprint)
        tokens = part.tokens[starts[first] : starts[last]]
        self._writer.add(tokens, starts[first + 1 : last + 1] - starts[first])

    def _finish_shard(self, next_task: int, next_document: int) -> None:
        assert self._writer is not None
        self._writer.finish()
        self._writer = None
        self._next = Place(self._next.n_shards + 1, next_task, next_document)
        self._written(self._side, self._next)
