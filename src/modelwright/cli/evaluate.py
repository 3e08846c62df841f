"""`modelwright evaluate`: how good models are, on known tasks and on any text."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from modelwright.checkpoint.bundle import Bundle
    from modelwright.evaluation.render import ModelResults
    from modelwright.evaluation.tasks import Task, TaskFile
    from modelwright.runtime.interrupts import StopRequest


picture_suffixes = (".svg", ".png", ".html")


def evaluate(
    models: list[Path] = typer.Argument(
        ..., help="Run folders, checkpoints, models, or folders of transformers; one or more."
    ),
    tasks: str | None = typer.Option(
        None, "--tasks", help="Names with commas, such as hellaswag,piqa; or all."
    ),
    text: Path | None = typer.Option(
        None, "--text", help="A text file, a folder of them, or a folder of token shards."
    ),
    limit: int | None = typer.Option(
        None, "--limit", min=1, help="Only the first items of each task, documents of a text."
    ),
    data: Path | None = typer.Option(
        None, "--data", envvar="MODELWRIGHT_EVAL_DATA", help="The folder with the tasks' files."
    ),
    fetch: bool = typer.Option(
        False,
        "--fetch",
        help="Fetch files that --data lacks from the hub; needs modelwright\\[hub].",
    ),
    stride: int | None = typer.Option(
        None, "--stride", help="Tokens of a text that each window scores; usually half a context."
    ),
    batch_tokens: int | None = typer.Option(
        None, "--batch-tokens", help="How many at once; changes the speed, not the scores."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    precision: str = typer.Option(
        "auto", "--precision", help="fp32, tf32, bf16 or fp16; auto: bf16 on a GPU, else fp32."
    ),
    averaged: bool = typer.Option(
        False, "--averaged", help="Use the moving average of the weights, if the run kept one."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="A JSON file with all, each item too; pictures beside it."
    ),
    harness: bool = typer.Option(
        False, "--harness", help="Ask lm-evaluation-harness for its tasks instead; needs lm-eval."
    ),
    include_path: Path | None = typer.Option(
        None, "--include-path", help="With --harness: a folder with more tasks of its kind."
    ),
) -> None:
    """Score models on tasks and texts, with standard errors, beside each other.

    What is scored is kept: after Ctrl-C the same command goes on. Scores of less than a whole task
    are marked PARTIAL.
    """
    from modelwright.evaluation.tasks import tasks_named
    from modelwright.runtime.files import require_writable

    if out is not None:
        if out.suffix in picture_suffixes:
            raise ValueError(
                f"--out is {out}, but that is what the pictures beside the results are called; "
                f"choose {out.with_suffix('.json')}"
            )
        require_writable(out.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
    if harness:
        evaluate_by_harness(
            models, tasks, limit, device, precision, averaged, include_path, batch_tokens, out
        )
        return
    wanted = tasks_named(tasks or "all") if tasks or text is None else []
    is_choosy = tasks not in (None, "all")
    if fetch:
        fetch_missing(wanted, data)
    files = find_files(wanted, data, limit, is_choosy=is_choosy)
    run(
        models,
        files,
        text,
        is_choosy=is_choosy,
        limit=limit,
        stride=stride,
        out=out,
        opening={"device": device, "precision": precision, "averaged": averaged},
        batch_tokens=batch_tokens,
    )


def fetch_missing(wanted: "list[Task]", data: Path | None) -> None:
    """Bring the files of tasks that the folder lacks into it, and say what they are."""
    from modelwright.evaluation.task_fetching import fetch_task
    from modelwright.evaluation.tasks import find_file

    if data is None or data.is_file():
        raise ValueError("--fetch needs a folder to put the tasks' files in; name one by --data")
    for task in wanted:
        try:
            find_file(task, data)
        except FileNotFoundError:
            print(f"fetched  {task.name}: {fetch_task(task, data)}", file=sys.stderr)


def find_files(
    wanted: "list[Task]", data: Path | None, limit: int | None, *, is_choosy: bool
) -> "list[tuple[Task, TaskFile]]":
    """The tasks with their items; of all tasks, those that are there, and a note on the others."""
    from modelwright.evaluation.tasks import find_file, read_task

    if data is not None and not data.exists():
        raise FileNotFoundError(f"there is nothing at --data {data}")
    if data is not None and data.is_file() and len(wanted) > 1:
        raise ValueError(f"--data {data} is a single file; name its task by --tasks")
    found: list[tuple[Task, TaskFile]] = []
    missing: list[Task] = []
    for task in wanted:
        try:
            path = find_file(task, data)
        except FileNotFoundError:
            if is_choosy:
                raise
            missing.append(task)
            continue
        found.append((task, read_task(task, path, limit=limit)))
    if wanted and not found:
        find_file(wanted[0], data)  # says where to get it
    if missing:
        names = ", ".join(f"{task.name} ({task.file})" for task in missing)
        print(f"note: left out, since {data} holds no file for them: {names}", file=sys.stderr)
    return found


def run(
    models: list[Path],
    files: "list[tuple[Task, TaskFile]]",
    text: Path | None,
    *,
    is_choosy: bool,
    limit: int | None,
    stride: int | None,
    out: Path | None,
    opening: dict[str, Any],
    batch_tokens: int | None,
) -> None:
    """Score every model, show a table, write the file; or say how to go on after a stop.

    Args:
        is_choosy: whether the tasks were named, so that none may be left out.
    """
    from modelwright.evaluation.asking import CannotBeAsked
    from modelwright.evaluation.render import ModelResults, as_text
    from modelwright.evaluation.running import Evaluation
    from modelwright.runtime.interrupts import stop_on_signals
    from modelwright.runtime.user_folder import user_folder

    results: list[ModelResults] = []
    begun: list[Evaluation] = []
    with stop_on_signals() as stop, progress_bars() as bars:
        for model in models:
            if stop.requested:
                break
            bundle = opened(model, **opening)
            evaluation = Evaluation(
                bundle,
                user_folder() / "evaluations",
                name=str(model),
                averaged=opening["averaged"],
                batch_tokens=batch_tokens,
                on_progress=bars,
                is_stopped=lambda: stop.requested,
            )
            begun.append(evaluation)
            facts = facts_of(bundle, evaluation.fingerprint, averaged=opening["averaged"])
            result = ModelResults(str(model), facts)
            results.append(result)
            if text is not None:
                result.text = evaluation.text(text, stride=stride, limit=limit)
            for task, file in files:
                if stop.requested:
                    break
                try:
                    result.tasks[task.name] = evaluation.task(task, file)
                except CannotBeAsked as error:
                    if is_choosy:
                        raise
                    bars.say(f"note: left out: {error}")
    print(as_text(results))
    finish(results, models, files, out, stop)
    for evaluation in begun:
        evaluation.forget_records()


def finish(
    results: "list[ModelResults]",
    models: list[Path],
    files: "list[tuple[Task, TaskFile]]",
    out: Path | None,
    stop: "StopRequest",
) -> None:
    """Write the file; leave here, with what is scored kept, if someone asked to stop."""
    from modelwright.evaluation.render import all_facts
    from modelwright.runtime.files import write_atomically

    asked = [(str(model), task.name) for model in models for task, _ in files]
    done = {(one.name, name) for one in results for name in one.tasks}
    not_begun = [f"{model}: {task}" for model, task in asked if (model, task) not in done]
    if out is not None:
        write_atomically(out, json.dumps(all_facts(results, not_begun), indent=1) + "\n")
        print(f"written  {out}")
        draw(results, out)
    if stop.signal_number is not None:
        print(
            "\nstopped: these scores are PARTIAL; what is scored is kept, and the same command "
            "goes on",
            file=sys.stderr,
        )
        sys.exit(128 + stop.signal_number)


def draw(results: "list[ModelResults]", out: Path) -> None:
    """A picture and a page of it beside the file, if there are scores to draw."""
    from modelwright.experiments.score_plots import rows_of, write_scores

    if rows_of(results):
        print(f"pictures {write_scores(results, out)}")


def opened(model: Path, *, device: str, precision: str, averaged: bool) -> "Bundle":
    """A model on its device, in the number format that it is evaluated in."""
    from typing import get_args

    from modelwright.interop.opening import open_model
    from modelwright.runtime.device import (
        DeviceChoice,
        PrecisionChoice,
        choose_device,
        choose_dtype,
        set_matmul_precision,
    )

    for name, value, allowed in (
        ("--device", device, get_args(DeviceChoice)),
        ("--precision", precision, get_args(PrecisionChoice)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
    place = choose_device(device)  # pyright: ignore[reportArgumentType] - it is one of them
    if precision == "auto":
        # Speed is no reason to round on a processor, where the products are not the only cost.
        precision = "auto" if place.type == "cuda" else "fp32"
    set_matmul_precision(precision, place)  # pyright: ignore[reportArgumentType]
    dtype = choose_dtype(precision, place)  # pyright: ignore[reportArgumentType]
    return open_model(
        model,
        device=place,
        dtype=dtype,
        averaged=averaged,
        on_note=lambda note: print(f"note: {note}", file=sys.stderr),
    )


def facts_of(bundle: "Bundle", fingerprint: str, *, averaged: bool) -> dict[str, Any]:
    """What a model is, for the file."""
    from dataclasses import asdict

    from modelwright.accounting.parameters import count_parameters
    from modelwright.runtime.device import describe_machine

    device = bundle.model.embedding.weight.device
    return {
        "folder": str(bundle.folder),
        "fingerprint": fingerprint,
        "tokenizer": bundle.tokenizer.fingerprint,
        "n_parameters": count_parameters(bundle.model.config).total,
        "averaged": averaged,
        "dtype": str(bundle.model.dtype).removeprefix("torch."),
        "device": device.type,
        "machine": asdict(describe_machine(device)),
    }


def evaluate_by_harness(
    models: list[Path],
    tasks: str | None,
    limit: int | None,
    device: str,
    precision: str,
    averaged: bool,
    include_path: Path | None,
    batch_tokens: int | None,
    out: Path | None,
) -> None:
    """Have lm-evaluation-harness ask its own tasks, which it fetches from the hub."""
    if not tasks:
        raise ValueError("--harness needs --tasks with names of lm-evaluation-harness")
    from modelwright.evaluation.harness import harness_results, results_table
    from modelwright.runtime.files import write_atomically

    found: dict[str, Any] = {}
    for model in models:
        bundle = opened(model, device=device, precision=precision, averaged=averaged)
        results = harness_results(
            bundle,
            tasks.split(","),
            limit=limit,
            include_path=include_path,
            batch_tokens=batch_tokens,
        )
        found[str(model)] = results
        print(f"{model}\n{results_table(results)}")
    if limit is not None:
        print(f"note: PARTIAL: the first {limit:,} items of each task", file=sys.stderr)
    if out is not None:
        status = "full" if limit is None else "partial"
        content = {"format": "lm-evaluation-harness", "status": status, "models": found}
        write_atomically(out, json.dumps(content, indent=1, default=str) + "\n")
        print(f"written  {out}")
