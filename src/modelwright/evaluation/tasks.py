"""The tasks by name: which file each is read from, how it is counted, and what is known of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelwright.evaluation import readers
from modelwright.evaluation.items import Item, Row
from modelwright.runtime.files import sha256_of

Metric = Literal["acc", "acc_norm", "acc_bytes", "perplexity"]

just_acc: tuple[Metric, ...] = ("acc",)
by_length: tuple[Metric, ...] = ("acc", "acc_norm", "acc_bytes")


@dataclass(frozen=True)
class Published:
    """What GPT-2 small (124M parameters) came to elsewhere."""

    metric: Metric
    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A set of questions.

    Attributes:
        file: what its file is called in a folder.
        n_items: how many the whole set has; what has fewer is a part of it.
        known: sha256 of files that have been looked at, and how each differs from the original.
        origin: where the original is found.
    """

    name: str
    file: str
    read: Callable[[Row], Item]
    n_items: int
    origin: str
    metrics: tuple[Metric, ...] = by_length
    known: Mapping[str, str] = field(default_factory=dict)
    published: tuple[Published, ...] = ()


_harness_issue = (
    "lm-evaluation-harness 0.4, github.com/EleutherAI/lm-evaluation-harness/issues/2159"
)
_llm_c = "lm-evaluation-harness, as quoted in github.com/karpathy/llm.c, dev/data/hellaswag.py"
_three_to_four = "questions that had three answers were filled up to four by repeating one"

_all = (
    Task(
        name="hellaswag",
        file="hellaswag_val.jsonl",
        read=readers.hellaswag,
        n_items=10_042,
        origin="hub dataset Rowan/hellaswag, validation",
        known={
            "649b0066cae1fdca5134ff8b5ec959732db81f8ef4c552127a620ad164287b30": (
                "llama.cpp's cleaned text; capitals in seven contexts may differ from the original"
            )
        },
        published=(Published("acc", 28.92, _llm_c), Published("acc_norm", 31.14, _llm_c)),
    ),
    Task(
        name="lambada_openai",
        file="lambada_openai_test.jsonl",
        read=readers.lambada,
        n_items=5153,
        metrics=("acc", "perplexity"),
        origin="hub dataset EleutherAI/lambada_openai, test",
        known={"4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226": ""},
        published=(
            Published("acc", 32.56, _harness_issue),
            Published("perplexity", 40.0554, _harness_issue),
        ),
    ),
    Task(
        name="piqa",
        file="piqa_val.jsonl",
        read=readers.piqa,
        n_items=1838,
        origin="hub dataset baber/piqa, validation",
        known={"d2870e73aec5154df3faf259b7700876e11608eebdf69e9d6667435673dbe4e0": ""},
    ),
    Task(
        name="arc_easy",
        file="arc_easy_test.jsonl",
        read=readers.arc,
        n_items=2376,
        origin="hub dataset allenai/ai2_arc, ARC-Easy, test",
        known={"d2d12e59543acf9a5ef6079634a72b30215e36c2fd4236fff3bc855d287b87f5": _three_to_four},
    ),
    Task(
        name="arc_challenge",
        file="arc_challenge_test.jsonl",
        read=readers.arc,
        n_items=1172,
        origin="hub dataset allenai/ai2_arc, ARC-Challenge, test",
        known={"1ae3aeedf1951d881cbd5c2e3a31e78a1993d251479afbe4cb413b6707244636": _three_to_four},
    ),
    Task(
        name="winogrande",
        file="winogrande_xl_val.jsonl",
        read=readers.winogrande,
        n_items=1267,
        metrics=just_acc,
        origin="hub dataset allenai/winogrande, winogrande_xl, validation",
        known={"ea1592526f3bfdd0948ed3acb1b4dfa3f83d23698917118688ee1df7f8d4b8d7": ""},
    ),
    Task(
        name="openbookqa",
        file="openbookqa_test.jsonl",
        read=readers.openbookqa,
        n_items=500,
        origin="hub dataset allenai/openbookqa, main, test",
        known={"adb2e5c7f8db810ddad4d6b2bf53dcc86dcc545499f7aafcaf42a8e179476c09": ""},
    ),
    Task(
        name="copa",
        file="copa_val.jsonl",
        read=readers.copa,
        n_items=100,
        metrics=just_acc,
        origin="hub dataset aps/super_glue, copa, validation",
        known={"595dca44dec54c849490bd403a3e24a29e3b944065783222ebb0eb1a55298846": ""},
    ),
    Task(
        name="boolq",
        file="boolq_val.jsonl",
        read=readers.boolq,
        n_items=3270,
        metrics=just_acc,
        origin="hub dataset aps/super_glue, boolq, validation",
        known={
            "454ff101e614370bb1807fe7ebbda6fdb57e794b9662cc1ccae211bf1ff626c8": (
                "passages without their titles"
            )
        },
    ),
    Task(
        name="commonsense_qa",
        file="commonsense_qa_val.jsonl",
        read=readers.commonsense_qa,
        n_items=1221,
        metrics=just_acc,
        origin="hub dataset tau/commonsense_qa, validation",
        known={
            "2771f63f8127c0725b1f6b0ef2cd2ef6469168ae5875fc8d276b25b4f32c8c1a": (
                "four answers where the original has five, so scores are higher than on it"
            )
        },
    ),
    Task(
        name="wsc273",
        file="winograd_wsc273.jsonl",
        read=readers.wsc273,
        n_items=273,
        metrics=just_acc,
        origin="hub dataset lighteval/winograd_wsc, wsc273, test",
        known={
            "746336c27cd2e39a554cb1b8b4869d0f1ae2577ac5bfe799842d26bca5a5bf5e": (
                "one space before the end of a sentence where the harness has two"
            )
        },
    ),
)
tasks: dict[str, Task] = {task.name: task for task in _all}


@dataclass(frozen=True)
class TaskFile:
    """The items of a task's file.

    Attributes:
        note: how the file differs from the original, or that nobody has looked; empty if it does
            not.
    """

    path: Path
    sha256: str
    items: tuple[Item, ...]
    note: str


def tasks_named(names: str, *, setting: str = "--tasks", has_all: bool = True) -> list[Task]:
    """The tasks of a list with commas, or all.

    Args:
        setting: where the list stands, for who has to be told.
        has_all: whether "all" is understood there.

    Raises:
        ValueError: naming the ones there are.
    """
    if names == "all" and has_all:
        return list(tasks.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in tasks]
    if unknown or not wanted:
        raise ValueError(
            f"{setting} names {', '.join(unknown) or 'nothing'}, which is no task here; there are: "
            f"{', '.join(tasks)}{', or all' if has_all else ''}"
        )
    return [tasks[name] for name in dict.fromkeys(wanted)]


def find_file(
    task: Task, data: Path | None, *, folder_setting: str = "--data or MODELWRIGHT_EVAL_DATA"
) -> Path:
    """Where a task's file is: `data` itself, or in that folder by the task's name or its file's.

    Args:
        folder_setting: what names the folder, for who has to be told.

    Raises:
        FileNotFoundError: saying where to get it.
    """
    if data is not None and data.is_file():
        return data
    names = [task.file, f"{task.name}.jsonl"]
    for name in names if data is not None else []:
        assert data is not None
        if (data / name).is_file():
            return data / name
    place = "no folder is given for it" if data is None else f"{data} holds no {' or '.join(names)}"
    raise FileNotFoundError(
        f"the task {task.name} needs a file of {task.n_items:,} lines of JSON, but {place}; the "
        f"original is the {task.origin}: modelwright evaluate --fetch brings it, or save it with "
        f"to_json(); name its folder by {folder_setting}"
    )


def read_task(task: Task, path: Path, *, limit: int | None = None) -> TaskFile:
    """Read a file's items; a limit takes the first ones.

    Raises:
        ValueError: naming the line that is not an item of this task.
    """
    sha256 = sha256_of(path)
    items: list[Item] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if limit is not None and len(items) == limit:
                break
            if line.strip():
                items.append(_item_of(task, line, f"{path}, line {number}"))
    if not items:
        raise ValueError(f"{path} holds no items; {task.name} is the {task.origin}")
    unknown = "a file that is not among those looked at, so its questions are not vouched for"
    return TaskFile(path, sha256, tuple(items), task.known.get(sha256, unknown))


def _item_of(task: Task, line: bytes, place: str) -> Item:
    try:
        item = task.read(json.loads(line))
        if not _is_sound(item.pairs, item.gold):
            raise ValueError("its answer is none of its choices")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise ValueError(f"{place} is no item of {task.name} ({error!r})") from None
    return item


def _is_sound(pairs: Sequence[tuple[str, str]], gold: int) -> bool:
    are_texts = all(isinstance(text, str) for pair in pairs for text in pair)
    return 0 <= gold < len(pairs) and are_texts and all(end.strip() for _, end in pairs)
