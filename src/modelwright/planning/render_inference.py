"""What using a model takes, as text: a row for each format of its weights."""

import math

from modelwright.planning.inference import FormatCost, Inference, group_size
from modelwright.planning.render import count, dollars, duration, entry, in_gib

columns = ("format", "weights", "in all", "", "prompt", "a token", "tokens/s", "a million")
widths = (7, 12, 12, 14, 10, 10, 10, 11)


def render_inference(inference: Inference, place: str) -> str:
    """Memory, time and price of reading prompts and writing answers.

    Args:
        inference: with its speeds.
        place: the device's name for people.
    """
    speed = inference.speed
    assert speed is not None, "only plan_inference finds out how fast it is"
    texts = "one text" if inference.batch == 1 else f"{inference.batch:,} texts at a time"
    lines = [
        f"Using the model on {place}",
        "",
        *entry(
            "texts",
            f"{texts}, with a prompt of {speed.prompt_tokens:,} tokens and an answer of "
            f"{speed.new_tokens:,}",
        ),
        *entry(
            "cache",
            f"{in_gib(inference.cache_bytes)} of keys and values at the end, in 16 bits",
        ),
        *entry(
            "at best",
            f"products in {speed.precision} at {speed.flops_per_second / 1e12:.3g} TFLOP/s "
            f"({speed.flops_source}); memory at {in_gib(speed.bytes_per_second)}/s "
            f"({speed.bytes_source})",
        ),
        "",
        _line(columns),
        *(_line(_cells(inference.weight_bytes[one.weights], one)) for one in speed.formats),
        "",
        *entry(
            "in all",
            f"weights, cache, and on a GPU the CUDA context and cuBLAS, of "
            f"{in_gib(speed.usable_bytes)}; not what passes between layers",
        ),
        *entry(
            "prompt",
            "until all prompts are read; a token: one more for every text; tokens/s and the price "
            "of a million: of new ones, reading included",
        ),
        *entry("", "these are a floor, as if arithmetic and memory each ran at their best"),
        *entry(
            "int8, int4",
            f"with a scale for every {group_size} numbers, embeddings in 16 bits; turned into "
            f"{speed.precision} to be multiplied",
        ),
    ]
    return "\n".join(lines)


def small_price(amount: float) -> str:
    """A price that may be far below a cent: "$5.90", "$0.11", "$0.0042"."""
    if amount >= 0.1 or amount <= 0:
        return dollars(amount)
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"


def _cells(n_bytes: int, cost: FormatCost) -> tuple[str, ...]:
    price = cost.price_per_million_tokens_usd
    return (
        cost.weights,
        in_gib(n_bytes),
        in_gib(cost.needed_bytes),
        "fits" if cost.fits else "does not fit",
        duration(cost.prefill_seconds),
        duration(cost.decode_seconds_per_token),
        count(cost.tokens_per_second),
        "no price" if price is None else small_price(price),
    )


def _line(cells: tuple[str, ...]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  " + first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)
