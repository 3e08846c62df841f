"""Training steps on one GPU, side by side: ours, a GPT-2 in plain PyTorch, and Hugging Face's.

    python benchmarks/train_gpu.py [--out FILE] [--cases gpt2-small:8,32 gpt2-xl:16] [--profile]
    python benchmarks/train_gpu.py --cases gpt2-xl:32 --set training.recompute=blocks
    python benchmarks/train_gpu.py --device cpu --cases tiny:2 --no-compile

A case is a model and how many sequences go through it at once; `train_gpu_contenders.py` says who
takes part. Each contender is first built alone, for its first step and its most memory. Then they
are all built again and take turns at rounds of some steps, during which nobody waits for the GPU;
a step's time is the median of the rounds. Where not all fit into memory at once, they come one
after the other, and the table says so. Prints tables in Markdown and writes a line of JSON a case.
"""

import argparse
import json
import re
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from train_gpu_contenders import Ours, Peer, free_memory

from modelwright.accounting.flops import mfu, training_flops
from modelwright.accounting.hardware import peak_flops
from modelwright.accounting.parameters import count_parameters
from modelwright.config.loading import load_settings
from modelwright.planning.step import Site
from modelwright.runtime.device import describe_machine
from modelwright.training.choices import resolve_attention
from modelwright.training.config import RunConfig

TOLERANCE = 0.02  # nats between losses with the same weights; bf16 rounds in other places
ROUND_SECONDS = 0.7
ROOM = 0.92  # of the memory that all contenders together may take
N_ALONE = N_PROFILED = 3  # steps
N_COSTLIEST = 25

default_cases = ("gpt2-small:8,32,64,128", "gpt2-medium:32", "gpt2-large:16", "gpt2-xl:16")
toy = ("n_layers=2", "d_model=64", "n_heads=2", "context=64", "vocab_size=512")
nanochat = ("vocab_size=32768", "context=2048", "d_model=768", "n_layers=12", "n_heads=6")
nanochat += ("mlp=relu2", "norm=rmsnorm", "positions=rope", "qk_norm=true", "tie_embeddings=false")
shapes = {f"gpt2-{n}": [f"model.preset=gpt2-{n}"] for n in ("small", "medium", "large", "xl")}
shapes["tiny"] = ["model.preset=gpt2-small", *(f"model.{setting}" for setting in toy)]
shapes["nanochat"] = [*(f"model.{setting}" for setting in nanochat), "training.batch_tokens=524288"]
everybody = ["plain", "lean", "hf", "ours"]
sensible = {"gpt2-small": everybody, "tiny": everybody}

# What kernels are for, by their names; the first that fits. Those of the compiler, which begin with
# "triton_", carry the names of what they do, so that of an attention stands for copies around it.
groups = {
    "attention": r"flash|fmha|sdpa|attention",
    "optimizer and clipping": r"adam|multi_tensor|foreach",
    "loss": r"softmax|nll_loss|logsumexp|cross_entropy|slope|surprise|expm1|replace_rows",
    "products": r"gemm|nvjet|cutlass|cublas|xmma|splitk|triton_tem",
    "compiled": r"^triton_",
    "copies and casts": r"memcpy|memset|copy|catarray|fill",
    "reductions": r"reduce",
    "one by one": r"elementwise",
}


@dataclass(frozen=True)
class Case:
    """A model and how many sequences go through it at once."""

    shape: str
    micro_batch: int
    sets: tuple[str, ...]
    label: str
    device: torch.device
    is_compiled: bool

    @property
    def name(self) -> str:
        label = self.label or " ".join(self.sets)
        return f"{self.shape} B={self.micro_batch} {label}".rstrip()

    def config(self) -> RunConfig:
        """The run; unless its shape says otherwise, a step is one portion."""
        settings = ["tokenizer.vocab_size=300", "model.vocab_multiple=128", *shapes[self.shape]]
        if self.shape != "nanochat":
            context = load_settings(RunConfig, None, [*settings, *self.sets]).config.model.context
            settings.append(f"training.batch_tokens={self.micro_batch * context}")
        return load_settings(RunConfig, None, [*settings, *self.sets]).config

    def site(self) -> Site:
        """Where our step runs, with the attention that "auto" comes to."""
        on_gpu = self.device.type == "cuda"
        return Site(
            device="cuda" if on_gpu else "cpu",
            dtype=torch.bfloat16,
            attention=resolve_attention(self.config(), self.device, "bf16"),
            is_compiled=self.is_compiled,
            micro_batch=self.micro_batch,
            capability=torch.cuda.get_device_capability() if on_gpu else None,
        )

    def build(self, name: str) -> Ours | Peer:
        """A contender before its first step."""
        config, site = self.config(), self.site()
        return Ours(config, site) if name == "ours" else Peer(name, config, site)


def measure_alone(case: Case, name: str) -> dict[str, Any]:
    """What a contender takes while there is no other: first step, memory, losses."""
    free_memory()
    found: dict[str, Any] = {"bytes_before": torch.cuda.memory_allocated()}
    contender = case.build(name)
    losses = [contender.loss(contender.telling)]
    free_memory()
    found["first_seconds"] = contender.seconds_of(1)
    if case.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    contender.seconds_of(N_ALONE)
    if case.device.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()
        found["kept_bytes"] = torch.cuda.memory_allocated()  # between steps
    return found | {"losses": [*losses, contender.loss(contender.batch)]}


def fit_together(found: dict[str, dict[str, Any]]) -> bool:
    """Whether all can be kept while one of them takes a step."""
    if any("kept_bytes" not in facts for facts in found.values()):
        return True
    kept = sum(facts["kept_bytes"] for facts in found.values())
    step = max(facts["reserved_bytes"] - facts["kept_bytes"] for facts in found.values())
    return kept + step < ROOM * torch.cuda.mem_get_info()[1]


def take_turns(
    case: Case, found: dict[str, dict[str, Any]], *, n_rounds: int, is_profiled: bool
) -> None:
    """Add the seconds of a step in each round, and a profile, to what was found alone."""
    contenders = {name: case.build(name) for name in found}
    n_steps: dict[str, int] = {}  # of a round
    for name, contender in contenders.items():
        found[name] |= {"rebuilt_first_seconds": contender.seconds_of(1), "rounds": []}
        n_steps[name] = max(2, round(ROUND_SECONDS / (contender.seconds_of(2) / 2)))
    for _ in range(n_rounds):
        for name, contender in contenders.items():
            contender.seconds_of(1)  # so that the memory is this one's again
            found[name]["rounds"].append(contender.seconds_of(n_steps[name]) / n_steps[name])
    for name, contender in contenders.items():
        found[name]["seconds"] = statistics.median(found[name]["rounds"])
        found[name]["n_steps"] = n_steps[name]
        if is_profiled and name in ("plain", "ours"):
            _profile_into(found, name, contender, case.device)


def _profile_into(
    found: dict[str, dict[str, Any]], name: str, contender: Ours | Peer, device: torch.device
) -> None:
    # What goes wrong here is no reason to measure the times again.
    attempt(found, [name], lambda: found[name].update(profile=profile(contender, device)))


def profile(contender: Ours | Peer, device: torch.device) -> dict[str, Any]:
    """Per step: the seconds in which a kernel ran, and kernels by name with seconds and number."""
    activity = torch.profiler.ProfilerActivity
    on_gpu = device.type == "cuda"
    contender.seconds_of(1)
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profiler:
        contender.seconds_of(N_PROFILED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    # A processor's operations contain each other; they are only there to try this out.
    kinds = ("kernel", "gpu_memcpy", "gpu_memset") if on_gpu else ("cpu_op",)
    seconds, number, busy, until = Counter[str](), Counter[str](), 0.0, 0.0
    for event in sorted((e for e in events if e.get("cat") in kinds), key=lambda e: e["ts"]):
        taken, end = event["dur"] / 1e6, (event["ts"] + event["dur"]) / 1e6
        seconds[event["name"]] += taken
        number[event["name"]] += 1
        busy += min(taken, max(0.0, end - until))
        until = max(until, end)
    per_step = {name: [taken / N_PROFILED, number[name] / N_PROFILED] for name, taken in
                seconds.most_common()}  # fmt: skip
    return {"busy_seconds": busy / N_PROFILED, "kernels": per_step}


def group_of(kernel: str) -> str:
    """What a kernel is for."""
    name = kernel.lower()
    fitting = (group for group, pattern in groups.items() if re.search(pattern, name))
    if name.startswith("triton_"):
        fitting = (group for group in fitting if group in ("loss", "products", "compiled"))
    return next(fitting, "other")


def profile_table(title: str, facts: dict[str, Any]) -> str:
    """Kernels by what they are for, and the costliest ones."""
    kernels, step = facts["profile"]["kernels"], facts["seconds"]
    busy = facts["profile"]["busy_seconds"]
    seconds, number = Counter[str](), Counter[str]()
    for kernel, (taken, n) in kernels.items():
        seconds[group_of(kernel)] += taken
        number[group_of(kernel)] += n
    rows = [(group, taken, number[group]) for group, taken in seconds.most_common()]
    rows += [("all kernels", busy, sum(number.values())), ("idle", max(0.0, step - busy), 0)]
    costliest = list(kernels.items())[:N_COSTLIEST]
    rows += [(f"`{name[:110]}`".replace("|", "/"), *figures) for name, figures in costliest]
    lines = [f"| {what} | {taken * 1e3:.2f} | {taken / step:.1%} | {n:.0f} |"
             for what, taken, n in rows]  # fmt: skip
    head = f"\n{title}\n\n| kernels | ms a step | share | number |\n| --- | ---: | ---: | ---: |\n"
    return head + "\n".join(lines)


def measure(case: Case, names: list[str], *, n_rounds: int, is_profiled: bool) -> dict[str, Any]:
    """A line of the record; whoever fails has an "error" in it."""
    torch.compiler.reset()
    config, device = case.config(), case.device
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in names:
        attempt(found, [name], lambda name=name: found[name].update(measure_alone(case, name)))
    losses = {name: facts["losses"] for name, facts in found.items() if "losses" in facts}
    print(f"\n{case.name}: losses with the same weights, and after {1 + N_ALONE} steps: {losses}",
          flush=True)  # fmt: skip
    before = [loss for loss, _ in losses.values()]
    if before and not max(before) - min(before) < TOLERANCE:
        for name in losses:
            found[name]["error"] = "the losses are of different models"
        losses = {}

    def turns(group: list[str]) -> None:
        there = {name: found[name] for name in group}
        take_turns(case, there, n_rounds=n_rounds, is_profiled=is_profiled)

    together = len(losses) > 1 and fit_together({name: found[name] for name in losses})
    together = together and attempt(found, list(losses), lambda: turns(list(losses)))
    for name in () if together else losses:
        attempt(found, [name], lambda name=name: turns([name]))
    n_tokens, seq = config.training.batch_tokens, config.model.context
    flops = training_flops(config.model, batch=config.batch_size, seq=seq)
    peak = peak_flops(device, "bf16").flops_per_second
    for facts in found.values():
        if "seconds" in facts:
            facts["tokens_per_second"] = n_tokens / facts["seconds"]
            facts["mfu"] = mfu(flops, facts["seconds"], peak)
            by_rule = n_tokens * rule_flops_per_token(config)
            facts["mfu_by_rule"] = mfu(by_rule, facts["seconds"], peak)
    machine, site = asdict(describe_machine(device)), case.site()
    line = {"case": case.name, "sets": case.sets, "attention": site.attention, "tokens": n_tokens}
    line |= {"machine": machine, "compiled": case.is_compiled, "flops": flops, "peak": peak}
    return line | {"turns": together, "contenders": found}


def attempt(found: dict[str, dict[str, Any]], names: list[str], work: Callable[[], None]) -> bool:
    """Do something for contenders; what goes wrong is noted unless they may try one by one.

    Returns:
        Whether it was done.
    """
    problem = None
    try:
        work()
    except torch.OutOfMemoryError:
        problem = "out of memory"
    except Exception as error:  # noqa: BLE001 - the other contenders go on
        problem = f"{type(error).__name__}: {error}"
    free_memory()  # only now does nothing refer to the tensors of what went wrong
    if problem and len(names) == 1:
        found[names[0]]["error"] = problem
    return problem is None


def rule_flops_per_token(config: RunConfig) -> int:
    """FLOPs as nanoGPT and nanochat count them: looked-up tables cost nothing, the head does.

    Source: Chowdhery et al. 2022, "PaLM", appendix B: 6 N + 12 L H Q T.
    """
    model, count = config.model, count_parameters(config.model)
    n_looked_up = count.position_embedding
    n_looked_up += 0 if model.tie_embeddings else count.token_embedding
    attention = 12 * model.n_layers * model.n_heads * model.head_width * model.context
    return 6 * (count.total - n_looked_up) + attention


def table(lines: list[dict[str, Any]]) -> str:
    """Everybody's figures; the last columns say how ours compares."""
    heads = ["case", "who", "in turns", "first step s", "step ms", "lowest to highest", "tokens/s"]
    heads += ["MFU", "by 6N + 12LHQT", "most GiB", "reserved GiB"]
    heads += ["ours: times as fast", "times the memory", "times the reserved"]
    rows = [heads, ["---", "---", "---", *["---:"] * (len(heads) - 3)]]
    for line in lines:
        ours = line["contenders"].get("ours", {})
        for name, facts in line["contenders"].items():
            row = [line["case"], name]
            if "seconds" in facts:
                row += ["yes" if line["turns"] else "no", f"{facts['first_seconds']:.1f}"]
                low, high = min(facts["rounds"]), max(facts["rounds"])
                row += [f"{facts['seconds'] * 1e3:.2f}", f"{low * 1e3:.2f} to {high * 1e3:.2f}"]
                row += [f"{facts['tokens_per_second']:,.0f}", f"{facts['mfu']:.1%}"]
                row += [f"{facts['mfu_by_rule']:.1%}"]
            else:
                row += ["no", f"failed: {facts.get('error', 'not reached')[:80]}", *["–"] * 5]
            row += [f"{facts[key] / 2**30:.2f}" if key in facts else "–"
                    for key in ("peak_bytes", "reserved_bytes")]  # fmt: skip
            row += [ratio(facts, ours, "seconds"), ratio(ours, facts, "peak_bytes")]
            rows.append([*row, ratio(ours, facts, "reserved_bytes")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(one: dict[str, Any], other: dict[str, Any], key: str) -> str:
    """How many times as much the first has of something."""
    return f"{one[key] / other[key]:.3f}" if key in one and key in other else "–"


def arguments_of_command() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=default_cases, metavar="SHAPE:B,B,...",
                        help=f"shapes: {', '.join(shapes)}; default: %(default)s")  # fmt: skip
    parser.add_argument("--contenders", nargs="+", choices=everybody, help="who takes part")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="for ours, alone unless --contenders says otherwise")  # fmt: skip
    parser.add_argument("--label", default="", help="what the settings are called")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=540, help="begin no case after these")
    parser.add_argument("--profile", action="store_true", help="list kernels of ours and plain")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, help="gets a line of JSON after each case")
    return parser.parse_args()


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    """The cases that were asked for.

    Raises:
        SystemExit: if a shape is unknown.
    """
    found = []
    for asked in arguments.cases:
        shape, _, sizes = asked.partition(":")
        if shape not in shapes or not sizes:
            raise SystemExit(f"--cases has {asked!r}; write one of {', '.join(shapes)} and how "
                             "many sequences, such as gpt2-small:8,32")  # fmt: skip
        found += [
            Case(shape, int(size), tuple(arguments.set), arguments.label,
                 torch.device(arguments.device), not arguments.no_compile)
            for size in sizes.split(",")
        ]  # fmt: skip
    return found


def names_of(case: Case, arguments: argparse.Namespace) -> list[str]:
    """Who takes part in a case."""
    if case.shape == "nanochat" or (case.sets and not arguments.contenders):
        return ["ours"]
    return arguments.contenders or sensible.get(case.shape, ["plain", "ours"])


def main() -> None:
    """Measure all cases; an interruption ends with the table of what there is."""
    arguments = arguments_of_command()
    began, lines = time.monotonic(), []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_float32_matmul_precision("high")  # for the peers; ours has no fp32 products
    print(describe_machine(torch.device(arguments.device)), flush=True)
    try:
        for case in cases_of(arguments):
            if time.monotonic() - began > arguments.seconds:
                print("out of time before", case.name)
                break
            line = measure(
                case,
                names_of(case, arguments),
                n_rounds=arguments.rounds,
                is_profiled=arguments.profile,
            )
            lines.append(line)
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            print(table([line]), flush=True)
            for name, facts in line["contenders"].items():
                if "profile" in facts:
                    print(profile_table(f"{case.name}, {name}", facts), flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        print(f"\n{table(lines)}", flush=True)


if __name__ == "__main__":
    main()
