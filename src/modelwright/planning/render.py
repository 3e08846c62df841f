"""A plan as text: one screen of it, and the sum at the fullest moment line by line."""

import textwrap
from collections.abc import Callable, Sequence

from modelwright.accounting.memory_rules import Subject
from modelwright.planning.duration import Range, Time
from modelwright.planning.inference import Inference
from modelwright.planning.plan import Memory, Plan, Tokens
from modelwright.planning.rules import Rule

gib = 2**30
bar_width = 40
name_width = 13
line_width = 98
purposes = {
    "weights": "the weights, in fp32",
    "gradients": "their gradients, in fp32",
    "optimizer": "what the optimizer keeps from step to step",
    "average": "the moving average of the weights",
    "activations": "what the blocks keep for the way back",
    "loss": "logits of one chunk, and the gradients that the loss makes at once",
    "batches": "tokens that wait on the device",
    "temporaries": "what is passed on and then forgotten",
    "scratch": "what the kernel at work takes for itself",
}


subjects: dict[Subject, str] = {
    "training": "the peak of a step",
    "inference": "weights and the cache of one whole text, both in fp32",
    "blocks": "what all blocks keep if none is compiled, in closed form",
}


def render(plan: Plan) -> str:
    """One screen: whether it fits, time and price, where the memory goes, how many tokens."""
    place = plan.place
    lanes = f", {place.n_lanes} lanes" if place.n_lanes > 1 else ""
    compiled = "compiled" if place.is_compiled else "not compiled"
    forgets = {
        "none": "",
        "blocks": ", blocks recomputed",
        "selective": ", blocks partly recomputed",
    }
    every = f" (one in {place.recompute_every})" if place.recompute_every > 1 else ""
    lines = [
        headline(plan),
        *_tight(plan.memory),
        f"{place.title}: {place.precision}, {place.attention} attention, {compiled}, "
        f"{place.n_portions} x {place.micro_batch} sequences a step{lanes}"
        f"{forgets[place.recompute]}{every}",
        f"{count(plan.n_parameters)} parameters; {plan.vocab_size:,} tokens in the vocabulary "
        f"({plan.vocab_source})",
        "",
        *_advice(plan),
        *_memory_lines(plan.memory),
        *_largest_batch(plan),
        "",
        *_time_lines(plan),
        "",
        *_token_lines(plan.tokens),
        "",
        *_work_lines(plan),
    ]
    return "\n".join(lines)


def headline(plan: Plan) -> str:
    """Whether it fits, in a sentence."""
    memory = plan.memory
    free = memory.usable_bytes - memory.needed_bytes
    needs = f"needs {in_gib(memory.needed_bytes)} of {in_gib(memory.usable_bytes)}"
    if memory.fits:
        how = "FITS, but tightly," if memory.is_tight else "FITS"
        return f"{how} on {plan.place.key}: a step {needs}, {in_gib(free)} to spare"
    if free >= 0:
        return (
            f"DOES NOT FIT on {plan.place.key}: a step {needs}, but what is free in between lies "
            "in pieces that are too small"
        )
    return f"DOES NOT FIT on {plan.place.key}: a step {needs}, {in_gib(-free)} too much"


def explain_peak(plan: Plan) -> str:
    """The sum at the fullest moment, kind by kind; the largest tensors; what textbooks say."""
    memory = plan.memory
    where = f" of {memory.module}" if memory.module else ""
    lines = [
        f"Most is held during {_phase(memory.phase)}, at the operation {memory.operation}{where}:",
        "",
    ]
    for kind, n_bytes in memory.kinds.items():
        lines.append(f"  {in_gib(n_bytes):>12}  {kind:<12} {purposes.get(kind, '')}".rstrip())
    lines.append(f"  {in_gib(memory.peak_bytes):>12}  in tensors")
    if memory.outside_bytes:
        lines += [
            f"+ {in_gib(memory.outside_bytes):>12}  the CUDA context and cuBLAS",
            f"= {in_gib(memory.needed_bytes):>12}  of {in_gib(memory.usable_bytes)}",
        ]
    if memory.reserved_bytes is not None:
        lines += [
            "",
            f"  {in_gib(memory.reserved_bytes):>12}  reserved by PyTorch's allocator: tensors, "
            "cuBLAS, and what is lost between",
            f"+ {in_gib(memory.context_bytes):>12}  the CUDA context",
            f"= {in_gib(memory.held_bytes):>12}  that the device would show as taken",
        ]
    lines += ["", "The largest tensors there:", ""]
    for tensor in memory.largest:
        shape = " x ".join(str(length) for length in tensor.shape)
        made = " ".join(filter(None, [tensor.operation, tensor.module]))
        lines.append(
            f"  {in_gib(tensor.n_bytes):>12}  {tensor.kind:<12} {shape} {tensor.dtype}"
            + (f", by {made}" if made else "")
        )
    return "\n".join([*lines, "", *_rule_lines(plan)])


def _rule_lines(plan: Plan) -> list[str]:
    """What textbooks say, grouped by what they say it of, and how far off they are."""
    lines = ["What textbook rules say instead:"]
    for about, rules in by_subject(plan.rules).items():
        traced = rules[0].traced_bytes
        known = "not known for this model" if traced is None else in_gib(traced)
        lines += ["", f"  {known:>12}  {subjects[about]}"]
        for rule in rules:
            error = "" if rule.relative_error is None else f"{rule.relative_error:+.0%}"
            said = f"  {in_gib(rule.n_bytes):>12}  {error:>6}  {rule.name:<24}"
            lines += textwrap.wrap(
                rule.source,
                line_width,
                initial_indent=said,
                subsequent_indent=" " * len(said),
                break_on_hyphens=False,
            )
    return lines


def by_subject(rules: Sequence[Rule]) -> dict[Subject, list[Rule]]:
    """The rules by what they are about, in the order in which that comes up."""
    found: dict[Subject, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.about, []).append(rule)
    return found


def count(number: float) -> str:
    """A count in three digits: "831", "12.3k", "1.56 billion"."""
    for unit, size in ((" trillion", 1e12), (" billion", 1e9), (" million", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it: "85 µs", "48 s", "12 min", "31 days"."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        least = 2 * size if unit == "days" else size
        if seconds >= least:
            return f"{seconds / size:.{1 if seconds < 10 * size else 0}f} {unit}"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.3g} µs"


def _tight(memory: Memory) -> list[str]:
    """How much PyTorch would rather have, where that is not there."""
    if not memory.is_tight:
        return []
    return [
        f"PyTorch would hold {in_gib(memory.held_bytes)} of {in_gib(memory.usable_bytes)}, "
        "and give blocks back, which takes time"
    ]


def _advice(plan: Plan) -> list[str]:
    if plan.memory.fits:
        return []
    if not plan.suggestions:
        return [
            "No single change of these makes it fit: smaller portions, recompute, 16-bit products. "
            "A smaller model or model.context would.",
            "",
        ]
    lines = ["any one of these makes it fit:"]
    for one in plan.suggestions:
        sets = " ".join(f"--set {setting}" for setting in one.settings)
        whole = one.peak_bytes + plan.memory.outside_bytes
        lines.append(f"  {sets:<42} {in_gib(whole):>10}   {one.costs}")
    return [*lines, ""]


def _memory_lines(memory: Memory) -> list[str]:
    """A line and a bar for each kind; all the bars together are as wide as the memory used."""
    parts = dict(memory.kinds)
    if memory.outside_bytes:
        parts["CUDA, cuBLAS"] = memory.outside_bytes
    lines = [f"memory       fullest during {_phase(memory.phase)}"]
    scale = max(memory.usable_bytes, memory.needed_bytes)
    for kind, n_bytes in parts.items():
        lines.append(f"  {kind:<12} {in_gib(n_bytes):>11} {_bar(n_bytes / scale)}".rstrip())
    if memory.reserved_bytes is not None and memory.fits:
        lines.append(
            f"  held         {in_gib(memory.held_bytes):>11} with what PyTorch's allocator loses "
            "between blocks"
        )
    return lines


def _bar(share: float) -> str:
    """Blocks, to an eighth of one."""
    eighths = round(share * bar_width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _largest_batch(plan: Plan) -> list[str]:
    largest = plan.largest_micro_batch
    if largest is None:
        return []
    if largest == 0:
        return ["  largest portion that fits: none, not even one sequence"]
    return [f"  largest portion that fits: training.micro_batch = {largest}"]


def _time_lines(plan: Plan) -> list[str]:
    time = plan.time
    said = (
        f"{_range(time.run_seconds, duration)} for {plan.n_steps:,} steps of "
        f"{_range(time.step_seconds, duration)}; {_range(time.tokens_per_second, count)} tokens/s"
    )
    lines = [
        *entry("time", said),
        *entry("", f"at an MFU of {_range(time.mfu, '{:.0%}'.format)}, {time.mfu_source}"),
        *_measured_lines(time),
    ]
    if time.price_usd is not None:
        lines += entry("price", f"{_range(time.price_usd, dollars)}: {time.price_source}")
    if time.kilowatt_hours is not None:
        energy = _range(time.kilowatt_hours, lambda hours: f"{hours:.3g}")
        lines += entry("energy", f"{energy} kWh, the board at its limit")
    return lines


def _measured_lines(time: Time) -> list[str]:
    """Where the time of a step goes, and what says so."""
    if time.calibrated is None or time.parts is None or time.busy is None:
        return entry("", "`modelwright calibrate` on such a machine turns the range into a point")
    parts = sorted(time.parts.items(), key=lambda item: -item[1])
    said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts)
    if time.busy < 0.9:
        said += f"; {1 - time.busy:.0%} of it the device waits to be handed work"
    return [*entry("", f"a step: {said}"), *entry("", f"measured: {time.calibrated}")]


def _token_lines(tokens: Tokens) -> list[str]:
    """The run's, what would suit the size of the model, and the losses that the laws expect."""
    laws = {name.capitalize(): law for name, law in tokens.laws.items()}
    optimal = ", ".join(f"{count(law.optimal_tokens)} by {name}" for name, law in laws.items())
    losses = ", ".join(f"{law.loss:.2f} by {name}" for name, law in laws.items())
    return [
        *entry(
            "tokens", f"{count(tokens.n_tokens)}, {tokens.per_parameter:.3g} for each parameter"
        ),
        *entry(
            "",
            f"compute-optimal: {count(tokens.rule_of_thumb)} by 20 for each parameter, {optimal}",
        ),
        *entry("", f"expected loss: {losses}; in nats per token of their data, not of yours"),
    ]


def _work_lines(plan: Plan) -> list[str]:
    work, disk = plan.work, plan.disk
    how = "more" if work.six_n_d_gap > 0 else "less"
    return [
        *entry(
            "a step",
            f"{work.model:.3e} FLOPs in matrix products (6ND: {work.six_n_d:.3e}, "
            f"{abs(work.six_n_d_gap):.1%} {how})",
        ),
        *entry(
            "",
            f"{work.exact:.3e} needed, without hidden pairs and with all that is no product; "
            f"{work.hardware:.3e} in products done",
        ),
        *entry(
            "disk",
            f"{in_gib(disk.total_bytes)}: {disk.n_kept} checkpoints that stay and one being "
            f"written, {in_gib(disk.checkpoint_bytes)} each",
        ),
        *_inference_lines(plan.inference),
    ]


def _inference_lines(inference: Inference) -> list[str]:
    """What is held to use the model."""
    texts = "one text" if inference.batch == 1 else f"{inference.batch:,} texts"
    return entry(
        "inference",
        f"{in_gib(inference.weight_bytes['bf16'])} of weights in bf16, "
        f"{in_gib(inference.cache_bytes)} of cache for {texts} of "
        f"{inference.context_tokens:,} tokens",
    )


def entry(name: str, text: str) -> list[str]:
    """A name and what is said of it, in as many lines as it takes."""
    return textwrap.wrap(
        text,
        line_width,
        initial_indent=name.ljust(name_width),
        subsequent_indent=" " * name_width,
        break_on_hyphens=False,
    )


def dollars(amount: float) -> str:
    """A price: "$5.90", "$1,240"."""
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:.2f}"


def _range(both: Range, shown: Callable[[float], str]) -> str:
    low, high = shown(both.low), shown(both.high)
    return low if low == high else f"{low} to {high}"


def _phase(phase: str) -> str:
    named: dict[str, str] = {
        "forward": "the forward pass",
        "loss": "the loss",
        "backward": "the backward pass",
        "clip": "clipping",
        "update": "the update",
    }
    return named.get(phase, phase)


def in_gib(n_bytes: float) -> str:
    """Bytes in GiB; two digits after the point, or as many as a small amount needs."""
    size = n_bytes / gib
    if size >= 0.1:
        return f"{size:,.{1 if size >= 100 else 2}f} GiB"
    return f"{size:.2g} GiB" if size >= 0.0001 else "0.00 GiB"
