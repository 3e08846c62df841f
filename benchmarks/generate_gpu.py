"""Writing with GPT-2 small on one GPU: ours beside Hugging Face's `generate`, the same weights.

    python benchmarks/generate_gpu.py [--out FILE] [--texts 1,64,8] [--rounds 5]
    python benchmarks/generate_gpu.py --device cpu --tiny

Three take part: `Engine`, and `GPT2LMHeadModel.generate` with its static cache, for which it
compiles its decoding step on a GPU by itself, and with its usual cache. Each continues the same
random prompts, by the likeliest token or by chance. They warm up one by one and then take turns;
the time of a whole call is the median of the rounds, and so is the time until the first token is
there. The usual cache, which is slow, has one round. The floor is what reading the weights, and the
keys and values of texts half written, leaves of the bandwidth measured here. A contender that fails
is left out, and no case begins after `--most-seconds`. Prints a table in Markdown and writes a line
of JSON a row.
"""

import argparse
import copy
import gc
import json
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from generate import Numbers, bandwidth, floor_seconds, theirs_with_weights_of

from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import Engine
from modelwright.generation.requests import Request
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.presets import presets
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import describe_machine

toy: dict[str, Any] = {"n_layers": 2, "d_model": 64, "n_heads": 2, "context": 64, "vocab_size": 512}
samplings = {
    "greedy": SamplingConfig(temperature=0),
    "top-k and top-p": SamplingConfig(temperature=0.8, top_k=50, top_p=0.95),
    "top-p": SamplingConfig(temperature=0.8, top_p=0.95),
}


def say(text: str) -> None:
    """Print now, so that whoever waits sees how far it is."""
    print(text, flush=True)


@dataclass(frozen=True)
class Case:
    """What is to be written."""

    n_texts: int
    n_prompt: int
    n_new: int
    drawn: str

    @property
    def sampling(self) -> SamplingConfig:
        return samplings[self.drawn]


@dataclass
class Timing:
    """The seconds of each round, until the first token and until the end."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


@dataclass
class Turn:
    """What one call brought."""

    first_seconds: float
    ids: list[list[int]]


def prompts_of(tokenizer: Numbers, case: Case) -> list[str]:
    """Random tokens; the engine puts an end-of-text before them."""
    generator = torch.Generator().manual_seed(2)
    shape = (case.n_texts, case.n_prompt - 1)
    ids = torch.randint(tokenizer.n_vocab - 1, shape, generator=generator)
    return [" ".join(map(str, row)) for row in ids.tolist()]


class Ours:
    """The engine, made once for a number of texts; they ignore the end of text."""

    name = "ours"
    is_slow = False

    def __init__(self, model: Transformer, tokenizer: Any, case: Case) -> None:
        n_tokens = case.n_prompt + case.n_new
        self.engine = Engine(model, tokenizer, n_slots=case.n_texts, n_tokens=n_tokens)
        self.prompts = prompts_of(tokenizer, case)

    def __call__(self, case: Case) -> Turn:
        began = time.perf_counter()
        handles = [
            self.engine.submit(
                Request(
                    prompt=prompt,
                    max_tokens=case.n_new,
                    sampling=case.sampling,
                    seed=seed,
                    ignore_end=True,
                )
            )
            for seed, prompt in enumerate(self.prompts)
        ]
        self.engine.step()
        first = time.perf_counter() - began
        self.engine.run()
        return Turn(first, [handle.ids for handle in handles])


class Theirs:
    """`generate` of transformers, on the same ids."""

    def __init__(self, model: Any, tokenizer: Numbers, case: Case, cache: str | None) -> None:
        self.name = "theirs, usual cache" if cache is None else f"theirs, {cache} cache"
        self.is_slow = cache is None
        self.model = model
        self.settings: dict[str, Any] = {} if cache is None else {"cache_implementation": cache}
        ids = torch.stack([tokenizer.encode(prompt) for prompt in prompts_of(tokenizer, case)])
        start = torch.nn.functional.pad(ids, (1, 0), value=tokenizer.end_of_text)
        self.start = start.to(model.device)

    def __call__(self, case: Case) -> Turn:
        moments: list[float] = []

        def note_first(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if not moments:
                wait(self.start.device)
                moments.append(time.perf_counter())
            return scores

        drawn: dict[str, Any] = {"do_sample": False}
        if case.sampling.temperature:
            drawn = {
                "do_sample": True,
                "temperature": case.sampling.temperature,
                "top_k": case.sampling.top_k,
                "top_p": case.sampling.top_p,
            }
        began = time.perf_counter()
        written = self.model.generate(
            self.start,
            attention_mask=torch.ones_like(self.start),
            max_new_tokens=case.n_new,
            use_cache=True,
            pad_token_id=0,
            logits_processor=[note_first],
            **drawn,
            **self.settings,
        ).tolist()
        return Turn(moments[0] - began, written)


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def attempt(name: str, call: Callable[[], Any]) -> Any:
    """What a call gives; if it fails, that is said, and the run goes on."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whatever a contender does, the others go on
        say(f"  {name} failed: {type(error).__name__}: {str(error)[:300]}")
        traceback.print_exc(limit=-4)
        return None


def measure(
    contenders: list[Any], case: Case, n_rounds: int, end: float
) -> tuple[dict[str, Timing], dict[str, list[list[int]]]]:
    """Times and texts of those that do not fail; each warms up before any of them counts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts: dict[str, list[list[int]]] = {}
    running: dict[str, Any] = {}
    for contender in contenders:
        began = time.perf_counter()
        n_calls = 1 if contender.is_slow else 2
        turns = [attempt(contender.name, lambda who=contender: who(case)) for _ in range(n_calls)]
        if all(turns):
            running[contender.name] = contender
            texts[contender.name] = turns[-1].ids
            say(f"  {contender.name} warmed up in {time.perf_counter() - began:.1f} s")
    timings = {name: Timing() for name in running}
    for number in range(n_rounds):
        for name, contender in list(running.items()):
            if number >= 1 and (contender.is_slow or time.perf_counter() > end):
                continue
            wait(device)
            began = time.perf_counter()
            turn = attempt(name, lambda who=contender: who(case))
            if turn is None:
                del running[name], timings[name]
                continue
            timings[name].whole.append(time.perf_counter() - began)
            timings[name].first.append(turn.first_seconds)
    return timings, texts


def common_tokens(one: list[list[int]], other: list[list[int]], n_prompt: int) -> float:
    """How many new tokens two contenders' texts have in common before they part, on average."""
    lengths = []
    for ours, theirs in zip(one, other, strict=True):
        pairs = list(zip(ours[n_prompt:], theirs[n_prompt:], strict=False))
        parted = [at for at, (a, b) in enumerate(pairs) if a != b]
        lengths.append(parted[0] if parted else len(pairs))
    return statistics.mean(lengths)


def rows_of(
    case: Case, timings: dict[str, Timing], texts: dict[str, list[list[int]]], greedy: float | None
) -> list[dict[str, Any]]:
    """A row of the table for each contender.

    Args:
        greedy: our tokens a second by the likeliest token; None if that was not measured.
    """
    ours = timings.get("ours")
    rows = []
    for name, timing in timings.items():
        seconds = statistics.median(timing.whole)
        rate = case.n_texts * case.n_new / seconds
        rows.append(
            {
                **asdict(case),
                "contender": name,
                "tokens_per_second": rate,
                "first_token_seconds": statistics.median(timing.first),
                "n_rounds": len(timing.whole),
                "spread": (max(timing.whole) - min(timing.whole)) / seconds,
                "ours_is_faster_by": seconds / statistics.median(ours.whole) if ours else None,
                "of_our_greedy": rate / greedy if greedy and name == "ours" else None,
                "tokens_as_ours": common_tokens(texts["ours"], texts[name], case.n_prompt)
                if case.drawn == "greedy" and "ours" in texts
                else None,
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The table."""
    say(
        "\n| texts | drawn | contender | tokens/s | ours is faster by | first token, ms "
        "| of our greedy | greedy tokens as ours | floor, tokens/s |"
    )
    say("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")

    def shown(number: float | None, form: str) -> str:
        return "" if number is None else format(number, form)

    for row in rows:
        say(
            f"| {row['n_texts']} | {row['drawn']} | {row['contender']} | "
            f"{row['tokens_per_second']:.0f} | {shown(row['ours_is_faster_by'], '.2f')} | "
            f"{1000 * row['first_token_seconds']:.1f} | {shown(row['of_our_greedy'], '.0%')} | "
            f"{shown(row['tokens_as_ours'], '.0f')} | {row['floor_tokens_per_second']:.0f} |"
        )


def contenders_for(
    model: Transformer, theirs: Any, tokenizer: Any, case: Case, chosen: list[str]
) -> list[Any]:
    """Those who take part, made anew, so that nothing compiled for other shapes is met."""
    makers: dict[str, Callable[[], Any]] = {
        "ours": lambda: Ours(model, tokenizer, case),
        "static": lambda: Theirs(copy.deepcopy(theirs), tokenizer, case, "static"),
        "usual": lambda: Theirs(theirs, tokenizer, case, None),
    }
    made = [attempt(name, makers[name]) for name in chosen]
    return [contender for contender in made if contender is not None]


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description="Writing on a GPU, measured.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy, to try this program")
    parser.add_argument("--texts", default="1,64,8", help="numbers of texts at once")
    parser.add_argument("--drawn", default=",".join(samplings), help="how tokens are chosen")
    parser.add_argument("--contenders", default="ours,static,usual")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--most-seconds", type=float, default=190)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.perf_counter()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    shape: dict[str, Any] = {**presets["gpt2-small"], "vocab_size": 50257}
    if options.tiny:
        shape |= toy
    config = ModelConfig(**shape)
    n_prompt, n_new = (8, 16) if options.tiny else (16, 256)
    attention = "flash" if device.type == "cuda" and dtype != torch.float32 else "math"
    model = Transformer(config, dtype=dtype, attention=attention)
    initialise(model, seed=1)
    theirs = theirs_with_weights_of(model).to(device, dtype)
    model.to(device).eval()
    tokenizer: Any = Numbers(config.known_vocab)
    say(str(describe_machine(device)))
    rate = bandwidth(device)
    say(f"reads {rate / 1e9:.0f} GB/s; {n_prompt} tokens of prompt, {n_new} new ones")
    rows: list[dict[str, Any]] = []
    for n_texts in map(int, options.texts.split(",")):
        torch._dynamo.reset()
        case = Case(n_texts, n_prompt, n_new, "greedy")
        chosen = options.contenders.split(",")
        contenders = contenders_for(model, theirs, tokenizer, case, chosen)
        half = n_prompt + n_new // 2
        least = n_texts / floor_seconds(model, n_texts, half, dtype, rate)
        greedy = None
        for drawn in options.drawn.split(","):
            if (taken := time.perf_counter() - began) > options.most_seconds:
                say(f"{n_texts} texts, {drawn}: left out after {taken:.0f} s")
                continue
            case = Case(n_texts, n_prompt, n_new, drawn)
            say(f"{n_texts} texts, {case.drawn}, after {taken:.0f} s")
            end = began + options.most_seconds
            timings, texts = measure(contenders, case, options.rounds, end)
            found = rows_of(case, timings, texts, greedy)
            for row in found:
                row["floor_tokens_per_second"] = least
                if row["contender"] == "ours" and case.drawn == "greedy":
                    greedy = row["tokens_per_second"]
            rows += found
            show(found)
            if options.out:
                with options.out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
        del contenders
        gc.collect()
    say(f"\nAll of it, after {time.perf_counter() - began:.0f} s:")
    show(rows)


if __name__ == "__main__":
    main()
