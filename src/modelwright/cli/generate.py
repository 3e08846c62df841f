"""`modelwright generate`: let a trained model write."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.variety import show_variety, temperatures_of
from modelwright.generation.variety import fewest_to_measure

if TYPE_CHECKING:
    from modelwright.checkpoint.bundle import Bundle
    from modelwright.generation.engine import Engine
    from modelwright.generation.requests import Handle, Request
    from modelwright.tokenizer.tokenizer import Tokenizer


def generate(
    model: Path = typer.Argument(..., help="A run folder, or one checkpoint in it."),
    prompt: str | None = typer.Option(
        None, "--prompt", "-p", help="How the text begins; '-' reads it from standard input."
    ),
    prompt_file: Path | None = typer.Option(
        None, "--prompt-file", help="A file with how the text begins; '-' is standard input."
    ),
    interactive: bool = typer.Option(
        False, "--interactive", help="Continue each line that is typed; Ctrl-D ends."
    ),
    samples: int = typer.Option(1, "--samples", "-n", help="How many texts."),
    max_tokens: int = typer.Option(200, "--max-tokens", help="Most tokens added to each."),
    temperature: float = typer.Option(0.8, help="Below 1 safer, above 1 wilder, 0 the likeliest."),
    top_k: int = typer.Option(0, help="Draw from this many likeliest tokens only; 0 from all."),
    top_p: float = typer.Option(0.95, help="Draw from the likeliest tokens up to this chance."),
    min_p: float = typer.Option(
        0.0, help="Draw from tokens with at least this fraction of the likeliest one's chance."
    ),
    repetition_penalty: float = typer.Option(
        1.0, help="Above 1, tokens that the text holds become less likely."
    ),
    stop: list[str] = typer.Option(
        [], "--stop", help="A text that ends the continuation and is left out; may be repeated."
    ),
    logprobs: int | None = typer.Option(
        None, "--logprobs", help="Show the chance of each token and of this many likeliest ones."
    ),
    beams: int = typer.Option(
        0, "--beams", help="Search for the likeliest text along this many, without chance."
    ),
    streamed: bool | None = typer.Option(
        None, "--stream/--no-stream", help="Show a text as it comes; usual for a single one."
    ),
    overflow: str = typer.Option(
        "slide", help="For a text beyond the context: slide (see its last part) or error."
    ),
    seed: int | None = typer.Option(None, help="The same seed draws the same text again."),
    averaged: bool = typer.Option(
        False, "--averaged", help="Use the moving average of the weights, if the run kept one."
    ),
    measure: str | None = typer.Option(
        None,
        "--measure",
        metavar="0.5,0.8,...",
        help="Write the samples at each of these temperatures, and show how varied they are.",
    ),
    as_json: bool = typer.Option(False, "--json", help="With --measure: print it as JSON."),
) -> None:
    """Continue a prompt with a trained model; one text is shown as it comes."""
    import secrets

    from modelwright.generation.config import SamplingConfig
    from modelwright.generation.engine import Engine, engine_for, seed_of
    from modelwright.generation.requests import Request

    check_together(
        samples=samples,
        beams=beams,
        streamed=streamed,
        interactive=interactive,
        is_prompted=prompt is not None or prompt_file is not None,
        needs_draws=bool(stop) or logprobs is not None,
    )
    has_others = bool(beams or interactive or streamed) or logprobs is not None
    check_measure(measure, samples=samples, others=has_others)
    if as_json and measure is None:
        raise ValueError("--json is for --measure; leave it out, or add that")
    sampling = SamplingConfig(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    first_seed = secrets.randbits(31) if seed is None else seed

    def request_for(text: str, sample: int, sampling: SamplingConfig = sampling) -> Request:
        return Request(
            prompt=text,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed_of(first_seed, sample),
            stop=tuple(stop),
            n_logprobs=logprobs,
            overflow=overflow,  # pyright: ignore[reportArgumentType] - it checks this itself
        )

    text = "" if interactive else prompt_from(prompt, prompt_file)
    requests = [request_for(text, sample) for sample in range(samples)]
    bundle = load(model, averaged=averaged)
    if measure is not None:

        def requests_at(temperature: float) -> list[Request]:
            drawn = dataclasses.replace(sampling, temperature=temperature)
            return [request_for(text, sample, drawn) for sample in range(samples)]

        show_variety(bundle, temperatures_of(measure), requests_at, as_json=as_json)
    elif beams:
        write_beams(bundle, text, n_beams=beams, n_shown=samples, max_tokens=max_tokens)
    elif interactive:
        engine = Engine(bundle.model, bundle.tokenizer, n_slots=1)
        for place, line in enumerate(typed_lines()):
            write(engine, [request_for(line, place)], first_seed, streamed=streamed is not False)
    else:
        engine = engine_for(bundle.model, bundle.tokenizer, requests)
        is_streamed = samples == 1 if streamed is None else streamed
        write(engine, requests, first_seed, streamed=is_streamed)


def check_together(
    *,
    samples: int,
    beams: int,
    streamed: bool | None,
    interactive: bool,
    is_prompted: bool,
    needs_draws: bool,
) -> None:
    """Refuse options that do not go together.

    Raises:
        ValueError: naming them.
    """
    if samples < 1:
        raise ValueError(f"--samples is {samples}; the least is 1")
    if beams < 0:
        raise ValueError(f"--beams is {beams}; choose 0 (draw by chance) or more, such as 4")
    if streamed and (samples > 1 or beams):
        raise ValueError("--stream shows a single text as it comes; leave it out for several texts")
    if interactive and (samples > 1 or beams or is_prompted):
        raise ValueError(
            "--interactive reads each prompt from the keyboard and continues it once; leave out "
            "--prompt, --prompt-file, --samples and --beams"
        )
    if beams and needs_draws:
        raise ValueError("--beams goes without --stop and --logprobs; leave them out")
    if beams and samples > beams:
        raise ValueError(
            f"--samples is {samples}, but the search keeps --beams = {beams} texts; choose at most "
            f"{beams} samples"
        )


def check_measure(measure: str | None, *, samples: int, others: bool) -> None:
    """Refuse to measure too little, or what is not drawn by chance and as a whole.

    Raises:
        ValueError: saying what to do.
    """
    if measure is None:
        return
    temperatures_of(measure)
    if samples < fewest_to_measure:
        raise ValueError(
            f"--samples is {samples}, but --measure compares texts with each other; choose at "
            f"least {fewest_to_measure}, such as 64"
        )
    if others:
        raise ValueError(
            "--measure goes without --beams, --interactive, --stream and --logprobs; leave them out"
        )


def prompt_from(prompt: str | None, file: Path | None) -> str:
    """The prompt, wherever it is."""
    if prompt is not None and file is not None:
        raise ValueError("both --prompt and --prompt-file are given; give one of them")
    if prompt == "-" or str(file) == "-":
        return sys.stdin.read()
    return file.read_text(encoding="utf-8") if file else prompt or ""


def load(model: Path, *, averaged: bool) -> "Bundle":
    """The model of a folder, with notes about checkpoints that were passed over."""
    from modelwright.checkpoint.bundle import load_bundle
    from modelwright.checkpoint.resume import newest_checkpoint
    from modelwright.runtime.device import choose_device

    if not model.is_dir():
        raise FileNotFoundError(f"there is no run folder {model}; train one first")
    folder, passed_over = model, []
    if not (model / "model.safetensors").exists():
        folder, passed_over = newest_checkpoint(model)
    for complaint in passed_over:
        print(f"note: passed over a damaged checkpoint: {complaint}", file=sys.stderr)
    return load_bundle(folder, device=choose_device("auto"), averaged=averaged)


def typed_lines() -> Iterator[str]:
    """Lines of standard input without their ends, asked for if a person is there."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line.rstrip("\n")


def write(engine: "Engine", requests: "list[Request]", seed: int, *, streamed: bool) -> None:
    """Write texts and show them, one as it comes or all at the end, and how fast it went."""
    began = time.perf_counter()
    handles = [engine.submit(request) for request in requests]
    to_first = None
    if streamed:
        print(requests[0].prompt, end="", flush=True)
    while not engine.is_idle:
        engine.step()
        to_first = to_first or time.perf_counter() - began
        if streamed:
            print(handles[0].take(), end="", flush=True)
    seconds = time.perf_counter() - began
    if streamed:
        print()
    else:
        print("\n\n---\n\n".join(handle.request.prompt + handle.text for handle in handles))
    for handle in handles:
        show_chances(handle, engine.tokenizer)
    n_tokens = sum(len(handle.tokens) for handle in handles)
    endings = ", ".join(sorted({str(handle.ended) for handle in handles}))
    print(
        f"[{n_tokens} tokens, {n_tokens / seconds:.0f} tokens/s, seed {seed}] first token after "
        f"{1e3 * (to_first or seconds):.0f} ms; ended by {endings}",
        file=sys.stderr,
    )


def show_chances(handle: "Handle", tokenizer: "Tokenizer") -> None:
    """Each token with the logarithm of its chance, and the likeliest tokens at its place."""
    for place in handle.logprobs:
        likeliest = "  ".join(
            f"{tokenizer.decode([token])!r} {logprob:.3f}" for token, logprob in place.likeliest
        )
        chosen = f"{tokenizer.decode([place.token])!r:>16} {place.logprob:8.3f}"
        print(f"{chosen}  | {likeliest}" if likeliest else chosen, file=sys.stderr)


def write_beams(
    bundle: "Bundle", prompt: str, *, n_beams: int, n_shown: int, max_tokens: int
) -> None:
    """Search for the likeliest texts and show the best of them."""
    from modelwright.generation.beam import beam_search

    began = time.perf_counter()
    found = beam_search(
        bundle.model, bundle.tokenizer, prompt, n_beams=n_beams, max_tokens=max_tokens
    )
    seconds = time.perf_counter() - began
    print("\n\n---\n\n".join(beam.text for beam in found[:n_shown]))
    scores = ", ".join(f"{beam.score:.3f}" for beam in found[:n_shown])
    print(f"[{n_beams} beams, {seconds:.1f} s] log-probability a token: {scores}", file=sys.stderr)
