"""Measure what this machine does: the rates from which the time of a step follows.

Matrix products and attention over a grid of sizes, copies from a kilobyte to gigabytes, every other
operation as a real step calls it, and how long the processor takes to hand out work to a GPU.
"""

import dataclasses
import datetime
import random
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelwright.accounting.measured_peak import float32_products
from modelwright.accounting.rates import Host, Kind, Rates
from modelwright.config.loading import load_settings
from modelwright.planning.clock import Clock, TimedOperations
from modelwright.planning.measuring import RealStep
from modelwright.planning.site import dtypes, first_site
from modelwright.planning.step import Site, trace_step
from modelwright.planning.timing import HandedOut, handed_out, step_time, whole_step
from modelwright.runtime.device import Precision, describe_machine
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.training.choices import chosen_kernels
from modelwright.training.config import RunConfig
from modelwright.training.step import measure_gradient

Samples = dict[str, list[list[float]]]

widths = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
token_counts = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
vocabularies = (10048, 32000, 50304, 128256)
ratios = (1, 1, 2, 3, 4, 8 / 3)  # of the other width of a matrix to the model's
layouts = ("nt", "nn", "tn")  # the way forward; back to the input; to the matrix

# Of the two minutes: seconds for the products of each precision, and for attention.
product_seconds: dict[Precision, float] = {"bf16": 24, "fp16": 8, "tf32": 10, "fp32": 10}
attention_seconds = 30.0
seconds_on_processor = 12.0  # for the products of each precision
whole_steps = ((128, 4, 8), (256, 4, 8), (384, 6, 4))  # widths, depths, portions
attention_kinds = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def calibrate(device: torch.device, *, on_progress: Listener = nobody) -> Rates:
    """Measure this machine; about two minutes on a GPU, less on a processor.

    Raises:
        ValueError: if PyTorch has no such device here.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no GPU here; calibrate with --on cpu")
    clock = Clock(device)
    samples: Samples = {"copy": _copies(clock)}
    flops: dict[str, float] = {}
    precisions = _precisions(device)

    def now(what: str, done: int) -> None:
        on_progress(Progress(phase=f"measuring {what}", done=done, total=n_parts, unit="parts"))

    n_parts = len(precisions) + 3
    for number, precision in enumerate(precisions):
        now(f"{precision} products", number)
        flops[precision] = _products(clock, precision, samples)
    rates = Rates(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        machine=describe_machine(device),
        measured=datetime.date.today().isoformat(),
        bytes_per_second=max(row[0] / row[1] for row in samples["copy"] if row[0] >= 2**26),
        flops_per_second=flops,
        samples=samples,
    )
    now("attention", n_parts - 3)
    if device.type == "cuda":
        _attentions(clock, samples)
    now("operations", n_parts - 2)
    for name in _operation_runs(device):
        _operations(clock, name, samples)
    now("steps", n_parts - 1)
    if device.type == "cuda":
        rates = dataclasses.replace(rates, host=_host(clock))
        rates = dataclasses.replace(rates, shares=_compiled_shares(clock, rates))
    else:
        rates = dataclasses.replace(rates, shares={"step": _whole_share(clock, rates)})
    now("steps", n_parts)
    return rates


def _precisions(device: torch.device) -> list[Precision]:
    if device.type == "cpu":
        return ["fp32", "bf16"]
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    return ["bf16", "fp16", "tf32", "fp32"] if modern else ["fp16", "fp32"]


def _copies(clock: Clock) -> list[list[float]]:
    """Bytes read and written together, and the seconds of it."""
    found = []
    for exponent in range(10, 32 if clock.on_gpu else 28):
        for n_bytes in (2**exponent, 3 * 2 ** (exponent - 1)):
            source = torch.ones(n_bytes // 8, dtype=torch.float32, device=clock.device)
            target = torch.empty_like(source)
            seconds = clock.seconds(lambda t=target, s=source: t.copy_(s))
            found.append([float(2 * source.nbytes), seconds])
    return found


def _products(clock: Clock, precision: Precision, samples: Samples) -> float:
    """Sample products as a model of any size has them; the best rate, in FLOPs a second."""
    best = 0.0
    budget = product_seconds[precision] if clock.on_gpu else seconds_on_processor
    deadline = time.perf_counter() + budget
    most_flops = (2e12 if precision in ("bf16", "fp16") else 4e11) if clock.on_gpu else 2e10
    with float32_products(clock.device, precision):
        for layout, n_matrices, rows, inner, columns in _product_sizes():
            if time.perf_counter() > deadline:
                break
            flops = 2 * n_matrices * rows * inner * columns
            if flops > most_flops:
                continue
            left, right = _factors(clock, precision, layout, n_matrices, rows, inner, columns)
            out = torch.empty(
                (*left.shape[:-1], columns), device=clock.device, dtype=dtypes[precision]
            )
            seconds = clock.seconds(lambda a=left, b=right, o=out: torch.matmul(a, b, out=o))
            best = max(best, flops / seconds)
            name = f"product {precision} {layout if n_matrices == 1 else 'several'}"
            samples.setdefault(name, []).append([n_matrices, rows, inner, columns, seconds])
    return best


def _product_sizes() -> Iterator[tuple[str, int, int, int, int]]:
    """Layout, matrices, rows, inner width, columns: without end, each as often as any other."""
    chance = random.Random(1)
    while True:
        layout = chance.choice(layouts)
        n_tokens, width = chance.choice(token_counts), chance.choice(widths)
        kind = chance.random()
        if kind < 0.12:  # scores, and their way back to values
            n_heads, positions = chance.choice((8, 48, 192)), chance.choice((128, 256, 512, 1024))
            d_head = chance.choice((64, 128))
            inner, columns = chance.choice(((d_head, positions), (positions, d_head)))
            yield chance.choice(("nt", "nn")), n_heads, positions, inner, columns
            continue
        if kind < 0.3:  # tokens of a chunk, and the whole vocabulary
            other = chance.choice(vocabularies)
            n_tokens = chance.choice((512, 1024, 2048, 3072))
        else:
            other = round(width * chance.choice(ratios) / 64) * 64
        into, out = chance.choice(((width, other), (other, width)))
        sizes = {
            "nt": (n_tokens, into, out),
            "nn": (n_tokens, out, into),
            "tn": (out, n_tokens, into),
        }
        yield layout, 1, *sizes[layout]


def _factors(
    clock: Clock,
    precision: Precision,
    layout: str,
    n_matrices: int,
    rows: int,
    inner: int,
    columns: int,
) -> tuple[Tensor, Tensor]:
    """Two matrices, or two stacks, of random numbers: with zeros a GPU draws less power."""
    stack = () if n_matrices == 1 else (n_matrices,)

    def numbers(first: int, second: int, is_turned: bool) -> Tensor:
        shape = (*stack, second, first) if is_turned else (*stack, first, second)
        made = torch.empty(shape, device=clock.device, dtype=dtypes[precision]).normal_(0, 0.05)
        return made.transpose(-1, -2) if is_turned else made

    return numbers(rows, inner, layout[0] == "t"), numbers(inner, columns, layout[1] == "t")


def _attentions(clock: Clock, samples: Samples) -> None:
    """Causal attention and its way back, by the kernels that the GPU has."""
    chance = random.Random(1)
    sizes = [
        (dtype, d_head, positions, n_heads)
        for dtype in ("bfloat16", "float32", "float16")
        for d_head in (32, 64, 80, 128)
        for positions in (128, 256, 512, 1024, 2048, 4096)
        for n_heads in (8, 32, 128, 512)
        if n_heads * positions**2 * d_head <= (2**36 if dtype != "float32" else 2**33)
        and n_heads * positions * d_head <= 2**26
    ]
    chance.shuffle(sizes)
    deadline = time.perf_counter() + attention_seconds
    for dtype, d_head, positions, n_heads in sizes:
        for kind, backend in attention_kinds.items():
            if time.perf_counter() > deadline:
                return
            if (dtype == "float32") != (kind == "efficient"):
                continue
            with sdpa_kernel(backend):
                _one_attention(clock, kind, dtype, (n_heads, positions, d_head), samples)


def _one_attention(
    clock: Clock, kind: str, dtype: str, sizes: tuple[int, int, int], samples: Samples
) -> None:
    n_heads, positions, d_head = sizes
    shape = (n_heads // 8, positions, 8, d_head)
    queries, keys, values = inputs = [
        torch.randn(shape, device=clock.device, dtype=getattr(torch, dtype))
        .transpose(1, 2)
        .requires_grad_()
        for _ in range(3)
    ]

    def attend() -> Tensor:
        return functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)

    try:
        with torch.no_grad():
            forward = clock.seconds(attend, most=0.02)
        out = attend()
    except RuntimeError:  # no kernel for these sizes
        return
    slope = torch.randn_like(out)
    backward = clock.seconds(
        lambda: torch.autograd.grad(out, inputs, slope, retain_graph=True), most=0.02
    )
    name = f"_scaled_dot_product_{kind}_attention"
    samples.setdefault(f"{name} {dtype}", []).append([*sizes, forward])
    samples.setdefault(f"{name}_backward {dtype}", []).append([*sizes, backward])


@dataclasses.dataclass(frozen=True)
class Run:
    """A step that is taken to measure: settings, precision, and the size of a portion."""

    settings: tuple[str, ...]
    precision: Precision
    micro_batch: int
    context: int


gpt_like = (
    "model.norm=layernorm",
    "model.mlp=gelu",
    "model.positions=learned",
    "model.bias=true",
)
llama_like = ("model.norm=rmsnorm", "model.mlp=swiglu", "model.positions=rope", "model.bias=false")


def _operation_runs(device: torch.device) -> Iterator[Run]:
    """Two kinds of model, and of each a small and a large portion."""
    on_gpu = device.type == "cuda"
    width = "model.d_model=1024" if on_gpu else "model.d_model=256"
    for style in (gpt_like, llama_like):
        settings = (*style, width, "model.n_layers=2", "model.n_heads=8")
        for precision in _precisions(device):
            for micro_batch in (1, 4, 16) if on_gpu else (1, 8):
                yield Run(settings, precision, micro_batch, 1024 if on_gpu else 256)


def _config_and_site(
    device: torch.device, run: Run, *, is_compiled: bool = False, n_portions: int = 1
) -> tuple[RunConfig, Site]:
    n_tokens = run.micro_batch * run.context * n_portions
    overrides = [*run.settings, f"model.context={run.context}", "tokenizer.vocab_size=300"]
    overrides += ["model.vocab_size=50304" if device.type == "cuda" else "model.vocab_size=4096"]
    overrides += [f"training.batch_tokens={n_tokens}"]
    config = load_settings(RunConfig, None, overrides).config
    if device.type == "cpu":
        site = first_site(config, None)
        return config, dataclasses.replace(site, dtype=dtypes[run.precision], n_lanes=1)
    short = run.precision in ("bf16", "fp16")
    capability = torch.cuda.get_device_capability(device)
    return config, Site(
        device="cuda",
        dtype=dtypes[run.precision],
        attention="flash" if short and capability >= (8, 0) else "efficient",
        is_compiled=is_compiled,
        micro_batch=run.micro_batch,
        capability=capability,
        kernels=chosen_kernels(config, device),
    )


def _operations(clock: Clock, run: Run, samples: Samples) -> None:
    """Take a step, and time each operation of it that is no product; medians of equal ones."""
    config, site = _config_and_site(clock.device, run)
    with float32_products(clock.device, run.precision):
        step = RealStep(config, config.model, site)
        step.take()
        with TimedOperations(clock) as timed:
            step.take()
    found: dict[tuple[Kind, tuple[float, ...]], list[float]] = {}
    for kind, sizes, seconds in timed.measured(run.precision):
        found.setdefault((kind, sizes), []).append(seconds)
    for (kind, sizes), seconds in found.items():
        if kind.rule == "copy" or (kind.rule == "attention" and not clock.on_gpu):
            samples.setdefault(kind.name, []).append([*sizes, statistics.median(seconds)])


def _host(clock: Clock) -> Host:
    """From steps so small that the GPU waits for the processor all the time, at two depths."""
    precision: Precision = "bf16" if "bf16" in _precisions(clock.device) else "fp16"
    found: dict[bool, list[tuple[HandedOut, float, float]]] = {}
    for is_compiled in (False, True):
        for depth in (4, 16):
            settings = (*gpt_like, f"model.n_layers={depth}", "model.d_model=64", "model.n_heads=2")
            run = Run(settings, precision, 1, 64)
            config, site = _config_and_site(clock.device, run, is_compiled=is_compiled)
            step = RealStep(config, config.model, site)
            for _ in range(3):
                step.take()
            seconds = statistics.median(step.take() for _ in range(25))
            of_update = statistics.median(_update_seconds(step) for _ in range(25))
            traced = whole_step(trace_step(config, config.model, site))
            found.setdefault(is_compiled, []).append((handed_out(traced), seconds, of_update))
    (small, few, few_updates), (large, many, many_updates) = found[False]
    tensor = max(0.0, (many_updates - few_updates) / (large.n_tensors - small.n_tensors))
    more = many - few - tensor * (large.n_tensors - small.n_tensors)
    operation = max(1e-6, more / (large.n_operations - small.n_operations))
    (small, few, _), (large, many, _) = found[True]
    more = many - few - tensor * (large.n_tensors - small.n_tensors)
    program = max(1e-6, more / (large.n_programs - small.n_programs))
    known = tensor * large.n_tensors + operation * large.n_operations + program * large.n_programs
    return Host(step=max(0.0, many - known), operation=operation, program=program, tensor=tensor)


def _update_seconds(step: RealStep) -> float:
    """How long clipping and the update take, the GPU having nothing else to do."""
    for parameter in step.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.cuda.synchronize()
    began = time.perf_counter()
    _, divisor = measure_gradient(step.model, 1.0, 1.0)
    step.optimizer.step(0.0, divisor=divisor, void=torch.zeros_like(divisor))
    step.optimizer.zero_grad()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _compiled_shares(clock: Clock, rates: Rates) -> dict[str, float]:
    """How much longer compiled kernels take than copies of the same bytes."""
    measured = predicted = 0.0
    precision: Precision = "bf16" if "bf16" in rates.flops_per_second else "fp16"
    for style in (gpt_like, llama_like):
        settings = (*style, "model.n_layers=4", "model.d_model=1024", "model.n_heads=16")
        run = Run(settings, precision, 8, 1024)
        config, site = _config_and_site(clock.device, run, is_compiled=True)
        traced = whole_step(trace_step(config, config.model, site))
        fused = [one for one in traced if one.name == "fused"]
        predicted += sum(rates.seconds(one, precision) for one in fused)
        torch.compiler.reset()
        step = RealStep(config, config.model, site)
        step.take()
        step.take()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            step.take()
        measured += sum(
            event.device_time_total / 1e6
            for event in seen.key_averages()
            if event.key.startswith("triton_")
        )
    if not measured:  # no profiler here
        return {}
    share = measured / predicted
    return {f"fused {number}": share for number in ("float32", "bfloat16", "float16")}


def _whole_share(clock: Clock, rates: Rates) -> float:
    """How much longer steps take on this processor than their operations by themselves."""
    shares = []
    for width, depth, micro_batch in whole_steps:
        settings = (*gpt_like, f"model.d_model={width}", f"model.n_layers={depth}")
        run = Run((*settings, "model.n_heads=4"), "fp32", micro_batch, 256)
        config, site = _config_and_site(clock.device, run, n_portions=2)
        site = dataclasses.replace(first_site(config, None), dtype=site.dtype)
        step = RealStep(config, config.model, site)
        step.take()
        seconds = statistics.median(step.take() for _ in range(7))
        predicted = step_time(trace_step(config, config.model, site), rates, "fp32").step
        shares.append(seconds / predicted)
    return statistics.median(shares)
