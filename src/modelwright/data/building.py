"""From documents to a finished folder of token shards, in one piece or not at all.

    sources ─ tasks ─┬─ duplicates ─┬─ training ─── tokenizer training ─┐
                     └──────────────┴─ both sides ──────────────────────┴─ parts ─ shards ─ manifest

The work is done in a folder beside the wanted one, which takes its name at the end. What is
finished in it stays when the build is stopped, and the same build goes on from there.
"""

import dataclasses
import errno
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import modelwright
from modelwright.data.assembly import Assembly
from modelwright.data.assembly import file_name as shards_file
from modelwright.data.config import DataConfig
from modelwright.data.folder import Data, open_data, settings_that_matter
from modelwright.data.hub import HubFile
from modelwright.data.progress import ByteCount, telling_of_fetching, tokenizer_progress
from modelwright.data.selecting import Selection, choose, fewest_for_hashing, first_of_equals
from modelwright.data.shards import SIDES, Side, folder_kind
from modelwright.data.sources import find_inputs, hub_listing
from modelwright.data.tasks import (
    Counts,
    Finished,
    Job,
    Task,
    divide,
    documents_of,
    finished_path,
    first_of_duplicates,
    firsts_path,
    forget_damaged,
    hash_task,
    hashes_path,
    read_finished,
    save_array,
    tokenize_task,
)
from modelwright.runtime.files import (
    flush_folder,
    lock_folder,
    require_writable,
    write_atomically,
)
from modelwright.runtime.manifest import write_manifest
from modelwright.runtime.progress import Listener, nobody
from modelwright.runtime.workers import Engine, EngineName, choose_engine
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import TrainingProgress, train_tokenizer

plan_file = "plan.json"
tasks_module = "modelwright.data.tasks"
passing = ("parts", "hashes", "spool", "downloads")  # folders that a finished one has not


def build_data(
    config: DataConfig,
    tokenizer_config: TokenizerConfig,
    on_progress: Listener = nobody,
    *,
    n_workers: int | None = None,
    engine: EngineName = "processes",
) -> Data:
    """Train or load the tokenizer, cut the text into tokens, write the folder, and open it.

    The same text and settings give the same bytes, whatever the number of workers, and however
    often the build was stopped. Memory: under 250 MB for each worker, and as much for this process,
    besides about four times the longest document, 16 bytes a document where duplicates are looked
    for, and what training a tokenizer takes.

    Args:
        n_workers: threads, or for much text processes, that share the work; None for one for each
            processor.
        engine: "processes" on this machine, or "ray" for a Ray cluster.

    Raises:
        FileExistsError: if the folder is there already.
        ValueError, OSError: if the text or the tokenizer cannot be used. What is finished is kept
            in a folder beside it, named FOLDER.unfinished.
    """
    folder = Path(config.folder)
    require_writable(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already; choose another place or remove it")
    with _work_folder(unfinished_folder(folder)) as work:
        build = _Build.begin(work, config, tokenizer_config, on_progress)
        n_tasks = len(build.tasks)
        with choose_engine(engine, n_workers, n_tasks, preload=tasks_module) as chosen:
            build.run(chosen)
        _turn_into(folder, work)
    return open_data(folder, on_progress)


def unfinished_folder(folder: Path) -> Path:
    """Where a folder of data is built."""
    return folder.with_name(f"{folder.name}.unfinished")


@contextmanager
def _work_folder(work: Path) -> Iterator[Path]:
    """Hold the folder in which data is built; it goes if a build fails that finished nothing."""
    work.mkdir(parents=True, exist_ok=True)
    with lock_folder(work):
        try:
            yield work
        except BaseException as error:
            if not _holds_something(work):
                shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(_disk_is_full(work)) from error
            raise


def _holds_something(work: Path) -> bool:
    """Whether there is something that a build which goes on need not do again."""
    parts, downloads = (work / "parts").glob("*.json"), (work / "downloads").rglob("*")
    return any(parts) or any(map(Path.is_file, downloads)) or (work / shards_file).exists()


def _disk_is_full(work: Path) -> str:
    free = shutil.disk_usage(work if work.exists() else work.parent).free
    return (
        f"the disk is full: {free / 1e6:,.1f} MB are free where {work} is; free some space, or set "
        "data.folder to another disk, and run the same command: it goes on with what is finished. "
        "A token takes 2 bytes, or 4 with a vocabulary above 65,536; while building, twice that"
    )


def _turn_into(folder: Path, work: Path) -> None:
    """Give finished work its name."""
    work.replace(folder)  # an empty folder of that name is replaced
    flush_folder(folder.parent)


@dataclass
class _Build:
    """A build, new or gone on with."""

    config: DataConfig
    tokenizer_config: TokenizerConfig
    settings: dict[str, Any]
    job: Job
    tasks: list[Task]
    on_progress: Listener

    @classmethod
    def begin(
        cls,
        work: Path,
        config: DataConfig,
        tokenizer_config: TokenizerConfig,
        on_progress: Listener,
    ) -> "_Build":
        """Look what is to be read, and whether the work in the folder is of the same build."""
        before = _read_plan(work)
        settings = settings_that_matter(config, tokenizer_config)
        is_same = before.get("settings") == settings
        known = {
            name: [HubFile(**file) for file in files]
            for name, files in before.get("hub", {}).items()
            if is_same
        }
        inputs = find_inputs(config, work, on_progress, known_on_hub=known)
        plan = {
            "program": modelwright.__version__,
            "settings": settings,
            "inputs": [[str(file.path), file.n_bytes, file.stamp] for file in inputs],
            "hub": hub_listing(inputs, config),
        }
        if plan != before:
            _clear(work)
            write_atomically(work / plan_file, json.dumps(plan, indent=1) + "\n")
        for folder in (work, work / "parts", work / "hashes"):  # what a killed process was writing
            for path in folder.glob(".*.part"):
                path.unlink()
        tasks = divide(inputs, [source.weight for source in config.sources])
        selection = Selection.of(config, by_hash=True)
        job = Job(work, tuple(inputs), selection, keeps_downloads=config.downloads is not None)
        n_documents = _count_documents(job, tasks, fewest_for_hashing, on_progress)
        if n_documents == 0:
            names = ", ".join(source.path for source in config.sources)
            raise ValueError(f"there is no text in {names}; choose one with words in it")
        if n_documents < fewest_for_hashing:
            job = replace(job, selection=replace(selection, by_hash=False))
        return cls(config, tokenizer_config, settings, job, tasks, on_progress)

    def run(self, engine: Engine) -> None:
        """Do what is not done yet, up to the manifest."""
        work = self.job.work
        for name in ("parts", "hashes"):
            (work / name).mkdir(exist_ok=True)
        if self.config.deduplicate:
            self._find_duplicates(engine)
        tokenizer = self._tokenizer()
        n_shards = self._tokenize(engine, tokenizer)
        finished = [_finished(work, task) for task in self.tasks]
        facts = {
            "settings": self.settings,
            "fingerprint": tokenizer.fingerprint,
            "n_vocab": tokenizer.n_vocab,
            "splits": _counts_of_sides(finished, n_shards),
            "sources": self._counts_of_sources(finished),
            "dropped": self._dropped(finished),
        }
        _remove_passing(work)
        write_manifest(work, folder_kind, facts)

    def _find_duplicates(self, engine: Engine) -> None:
        work = self.job.work
        tasks = [task for task in self.tasks if task.repetition == 0]
        if all(firsts_path(work, task).exists() for task in tasks):
            return
        missing = [task for task in tasks if not hashes_path(work, task).exists()]
        progress = ByteCount("looking for duplicates", tasks, missing, self.on_progress)
        with closing(engine.run(hash_task, self.job, missing, progress.add_fetched)) as results:
            for task in results:
                progress.add(task)
        hashes = [np.load(hashes_path(work, task), allow_pickle=False) for task in tasks]
        for task, is_first in zip(tasks, first_of_equals(hashes), strict=True):
            save_array(firsts_path(work, task), is_first)

    def _tokenizer(self) -> Tokenizer:
        path = self.job.work / "tokenizer.json"
        if path.exists():
            return Tokenizer.load(path)
        config = self.tokenizer_config
        tasks = _evenly(self.tasks, config.learn_bytes)
        is_plain = all(file.n_bytes == file.text_bytes for file in self.job.inputs)
        n_bytes = min(config.learn_bytes, sum(task.n_bytes for task in tasks)) if is_plain else None
        tokenizer = _make_tokenizer(
            config, self._training_texts(tasks, config.learn_bytes), n_bytes, self.on_progress
        )
        tokenizer.save(path)
        return tokenizer

    def _training_texts(self, tasks: Sequence[Task], n_bytes: int) -> Iterator[bytes]:
        """The training side of some tasks, up to a number of bytes."""
        report = telling_of_fetching(self.on_progress)
        for task in tasks:
            is_first = first_of_duplicates(self.job, task)
            for documents in documents_of(self.job, task, report):
                chosen = choose(
                    documents,
                    self.job.selection,
                    source=task.source,
                    repetition=task.repetition,
                    is_first=is_first,
                )
                for text in chosen.sides["train"]:
                    yield text
                    n_bytes -= len(text)
                    if n_bytes <= 0:
                        return

    def _tokenize(self, engine: Engine, tokenizer: Tokenizer) -> dict[Side, int]:
        work = self.job.work
        assembly = Assembly(work, tokenizer, self.config.shard_tokens)
        for task in self.tasks:
            forget_damaged(work, task.index, assembly.sides_that_need(task.index))
        missing = [task for task in self.tasks if not finished_path(work, task.index).exists()]
        progress = ByteCount("cutting text into tokens", self.tasks, missing, self.on_progress)
        job = replace(self.job, fingerprint=tokenizer.fingerprint)
        n_tokens = 0
        self._assemble(assembly)
        try:
            with closing(engine.run(tokenize_task, job, missing, progress.add_fetched)) as results:
                for task in results:
                    n_tokens += _n_tokens(_finished(work, task))
                    progress.add(task, f"{n_tokens / 1e6:,.1f}M tokens")
                    self._assemble(assembly)
            assert assembly.next_task == len(self.tasks)
            return assembly.finish()
        except BaseException:
            assembly.discard()
            raise

    def _assemble(self, assembly: Assembly) -> None:
        """Take over, in order, the parts that are there."""
        while (
            assembly.next_task < len(self.tasks)
            and finished_path(self.job.work, assembly.next_task).exists()
        ):
            assembly.add(assembly.next_task)

    def _counts_of_sources(self, finished: Sequence[Finished]) -> list[dict[str, Any]]:
        """How much each source gives to the training side, of an epoch."""
        counts = [Counts() for _ in self.config.sources]
        for task, done in zip(self.tasks, finished, strict=True):
            counts[task.source] += done.sides["train"]
        return [
            {"path": source.path, "weight": source.weight} | dataclasses.asdict(count)
            for source, count in zip(self.config.sources, counts, strict=True)
        ]

    def _dropped(self, finished: Sequence[Finished]) -> dict[str, int]:
        """How many documents were left out, and why."""
        total: Counter[str] = Counter()
        for task, done in zip(self.tasks, finished, strict=True):
            if task.repetition == 0:
                total.update(done.dropped)
        return {reason: count for reason, count in sorted(total.items()) if count}


def _read_plan(work: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        return json.loads((work / plan_file).read_text())
    return {}


def _clear(work: Path) -> None:
    """Remove what an earlier build with other settings or another text has left, but the spool."""
    for path in work.iterdir():
        if path.is_dir() and path.name != "spool":
            shutil.rmtree(path)
        elif path.is_file() and path.name != ".lock":
            path.unlink()


def _remove_passing(work: Path) -> None:
    for name in passing:
        shutil.rmtree(work / name, ignore_errors=True)
    for name in (plan_file, shards_file, ".lock"):
        (work / name).unlink(missing_ok=True)


def _count_documents(job: Job, tasks: Sequence[Task], enough: int, on_progress: Listener) -> int:
    """How many documents there are that hold more than white space, or enough."""
    report = telling_of_fetching(on_progress)
    n_documents = 0
    for task in tasks:
        if task.repetition > 0:
            continue
        for documents in documents_of(job, task, report):
            n_documents += sum(not text.isspace() for text in documents if text)
            if n_documents >= enough:
                return n_documents
    return n_documents


def _evenly(tasks: Sequence[Task], n_bytes: int) -> list[Task]:
    """Some of the tasks, evenly spread over all, that hold about as many bytes as wanted."""
    share = n_bytes / sum(task.n_bytes for task in tasks)
    if share >= 1:
        return list(tasks)
    chosen = [task for i, task in enumerate(tasks) if int((i + 1) * share) > int(i * share)]
    return chosen or list(tasks[:1])


def _finished(work: Path, task: Task) -> Finished:
    finished = read_finished(work, task.index)
    assert finished is not None
    return finished


def _n_tokens(finished: Finished) -> int:
    return sum(counts.n_tokens for counts in finished.sides.values())


def _counts_of_sides(
    finished: Sequence[Finished], n_shards: dict[Side, int]
) -> dict[Side, dict[str, int]]:
    totals = {side: Counts() for side in SIDES}
    for done in finished:
        for side in SIDES:
            totals[side] += done.sides[side]
    return {side: dataclasses.asdict(totals[side]) | {"n_shards": n_shards[side]} for side in SIDES}


def _make_tokenizer(
    config: TokenizerConfig, texts: Iterable[bytes], n_bytes: int | None, on_progress: Listener
) -> Tokenizer:
    if config.file is not None:
        tokenizer = Tokenizer.load(Path(config.file))
        if tokenizer.n_vocab != config.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size is {config.vocab_size}, but {config.file} has "
                f"{tokenizer.n_vocab} tokens; set tokenizer.vocab_size = {tokenizer.n_vocab}"
            )
        return tokenizer

    def tell(progress: TrainingProgress) -> None:
        on_progress(tokenizer_progress(progress, n_bytes))

    return train_tokenizer(
        texts,
        vocab_size=config.vocab_size,
        pattern=config.split_pattern,
        on_progress=tell,
    )
