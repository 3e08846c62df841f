"""The right value of each textbook figure, from our own functions.

A figure has a function that gives the numbers of its `exact`, in their order: in numbers, bytes,
seconds and FLOPs, whatever unit the text shows them in. Figures are in the documents' order.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from modelwright.accounting.catalogue import catalogue, weight_matrix_parameters
from modelwright.accounting.elementwise import optimizer_flops
from modelwright.accounting.flops import (
    forward_flops,
    six_n_d,
    step_flops,
    training_flops,
    visible_pairs,
)
from modelwright.accounting.hardware import NumberFormat, device_named
from modelwright.accounting.inference import (
    formats_table,
    kv_cache_bytes,
    number_formats,
    weight_bytes,
)
from modelwright.accounting.memory_peak import loss_temporaries, peak_estimate
from modelwright.accounting.memory_rules import listed_activations, textbook_rules
from modelwright.accounting.parameters import (
    count_parameters,
    parameters_per_norm,
    tensor_counts,
)
from modelwright.accounting.scaling import (
    PowerLaw,
    besiroglu,
    chinchilla_tokens,
    hoffmann,
    kaplan_parameters,
)
from modelwright.accounting.textbook import figure_named
from modelwright.config.loading import load_settings
from modelwright.model.presets import presets
from modelwright.planning.step import fake_batch
from modelwright.training.config import RunConfig
from modelwright.training.schedules import learning_rate
from quantities import quantities
from textbook_models import (
    Values,
    block_keeps,
    bytes_by_the_rule_of_24,
    bytes_that_stay,
    fifty_thousand,
    forward_figures,
    gpt3,
    in_blocks,
    largest_batch,
    last_norm,
    matrices_only,
    model,
    n_parameters,
    openai_xl,
    padded,
    peak,
    per_sequence,
    plain_loss_bytes,
    recipe,
    shares,
    small,
    swiglu,
    tensor,
    untied,
    workload,
    xl,
)


def saved_by_tying() -> Values:
    saved = n_parameters(untied) - n_parameters(small)
    assert saved == count_parameters(small).token_embedding  # and nothing else is saved
    return [saved]


gpt2_small: dict[str, Callable[[], Values]] = {
    "0.1": lambda: [
        count_parameters(small).token_embedding + count_parameters(small).position_embedding,
        count_parameters(small).token_embedding,
        count_parameters(small).position_embedding,
    ],
    "0.2": lambda: [tensor(small, "attention.qkv.weight"), tensor(small, "attention.qkv.bias")],
    "0.3": lambda: [
        tensor(small, "attention.output.weight"),
        tensor(small, "attention.output.bias"),
    ],
    "0.4": lambda: [
        tensor(small, "mlp.up.weight", "mlp.down.weight"),
        tensor(small, "mlp.up.bias", "mlp.down.bias"),
    ],
    "0.5": lambda: [in_blocks(matrices_only(small)), in_blocks(small)],
    "0.6": lambda: [count_parameters(untied).unembedding],
    "0.7": lambda: [
        n_parameters(replace(untied, bias=False, norm="none")),
        n_parameters(untied),
    ],
    "0.8": lambda: [n_parameters(untied)],
    "0.9": saved_by_tying,
    "0.10": lambda: [
        2 * count_parameters(fifty_thousand).token_embedding
        - count_parameters(replace(fifty_thousand, tie_embeddings=False)).unembedding
    ],
    "0.11": lambda: [
        count_parameters(matrices_only(small)).attention,
        count_parameters(matrices_only(small)).mlp,
    ],
    "0.12": lambda: [n_parameters(matrices_only(fifty_thousand)), n_parameters(small)],
    "0.13": lambda: [
        n_parameters(matrices_only(fifty_thousand)), n_parameters(small), n_parameters(small)
    ],
    "0.14": saved_by_tying,
}  # fmt: skip


def product_flops(*names: str) -> int:
    """FLOPs of the assignment's XL with some of a block's matrices, over 1,024 tokens."""
    return 2 * 1024 * tensor(xl, *(f"{name}.weight" for name in names))


def attention_projections() -> tuple[int, int]:
    """FLOPs of the queries, keys and values of a block, and of its output projection."""
    into, out = product_flops("attention.qkv"), product_flops("attention.output")
    assert 48 * (into + out) == forward_flops(xl, batch=1, seq=1024).projections
    return into, out


def pairs_flops(product: str) -> Values:
    """Of a block, of all pairs of positions and of those that see each other."""
    every, seen = (
        getattr(forward_flops(xl, batch=1, seq=1024, causal=causal), product)
        for causal in (False, True)
    )
    assert seen / every == visible_pairs(1024) / 1024**2
    return [every / 48, seen / 48]


def blocks_flops() -> int:
    forward = forward_flops(xl, batch=1, seq=1024)
    return forward.total - forward.unembedding


def mlp_in_block() -> Values:
    forward = forward_flops(xl, batch=1, seq=1024)
    return [
        forward.mlp / blocks_flops(),
        forward.mlp / 48,
        (blocks_flops() - forward.mlp) / 48,
    ]


def long_context() -> Values:
    long = forward_flops(replace(xl, context=16_384), batch=1, seq=16_384).total
    return [long, long / forward_flops(xl, batch=1, seq=1024).total]


def long_shares() -> Values:
    short, long = shares(xl), shares(xl, seq=16_384)
    return [short["pairs"], long["pairs"], short["mlp"], long["mlp"]]


def table_of_positions() -> Values:
    learned = replace(xl, positions="learned")
    return [
        n_parameters(learned),
        n_parameters(xl),
        count_parameters(learned).position_embedding,
    ]


def kept_by_a_block() -> Values:
    eager = block_keeps(xl, workload(2, attention="plain"))
    fused = block_keeps(xl, workload(2, attention="efficient"))
    one_block = replace(xl, n_layers=1, n_heads=1, d_model=2, d_ff=4, vocab_size=1)
    # The list is 2 x t + y t² for texts of t tokens here, so two lengths tell x and y.
    short, long = (listed_activations(one_block, batch=1, seq=seq) - 3 * seq for seq in (1, 2))
    squares = (long - 2 * short) / 2
    return [*(x / 4 for x in (*eager, *fused)), (short - squares) / 2, squares]


def kept_by_a_sequence() -> Values:
    listed = listed_activations(xl, batch=1, seq=1024)
    return [4 * listed, listed, per_sequence(xl, "plain"), per_sequence(xl, "efficient")]


def peaks_of_two() -> Values:
    """Our peaks; that of the formula is what the document says."""
    (formula,) = [r for r in textbook_rules(xl, batch=2, seq=1024) if r.name == "16 N + 4 N_act"]
    assert quantities(figure_named("1.29").said)[0].shows(formula.n_bytes)
    work = workload(2, attention="efficient")
    fused, accumulated = (
        peak_estimate(xl, work, accumulates=again).n_bytes for again in (False, True)
    )
    return [peak("gpt2-xl-swiglu", "plain", 2), fused, accumulated]


def batches_by_the_formula() -> Values:
    still, each = bytes_that_stay(xl), 4 * listed_activations(xl, batch=1, seq=1024)
    decimal, binary = ((capacity - still) / each for capacity in (80e9, 80 * 2**30))
    ours = largest_batch(xl, "plain"), largest_batch(xl, "efficient")
    return [decimal, int(decimal), 80e9, binary, int(binary), 80 * 2**30, *ours]


def adamw_flops() -> Values:
    a_step = optimizer_flops(n_parameters(xl), "adamw")
    share = a_step / training_flops(xl, batch=1024, seq=1024)
    return [optimizer_flops(1, "adamw"), a_step, share, 1024]


def assignment_run() -> Values:
    n_tokens = 400_000 * 1024 * 1024
    step = training_flops(xl, batch=1024, seq=1024)
    return [
        six_n_d(n_parameters(xl), n_tokens),
        400_000 * step,
        six_n_d(n_parameters(xl), n_tokens // 1024),
    ]


def flops_of_a_parameter() -> Values:
    mlp = step_flops(xl, batch=1, seq=1024).mlp
    each = count_parameters(xl).mlp * 1024
    assert six_n_d(1, 1) == 6
    return [mlp.forward / each, mlp.backward / each]


def a100_rate(number_format: NumberFormat) -> float:
    """FLOPs a second at half of the peak."""
    return device_named("a100-80gb").peaks[number_format] / 2


def assignment_seconds() -> Values:
    flops = assignment_run()[0]
    fp32, bf16 = flops / a100_rate("fp32"), flops / a100_rate("bf16")
    return [fp32, fp32, bf16]


def trend() -> Values:
    of = [shares(swiglu(f"gpt2-{size}")) for size in ("small", "medium", "large", "xl")]
    mlp, output = [one["mlp"] for one in of], [one["output"] for one in of]
    assert mlp == sorted(mlp)
    assert output == sorted(output, reverse=True)
    return [*mlp, *output]


assignment: dict[str, Callable[[], Values]] = {
    "1.1": lambda: [len(b" accomplishment"), len(b"accomplishment")],
    "1.2": lambda: [40 + 20, said("1.2")[0] - (40 + 20)],
    "1.3": list,
    "1.4": lambda: [825e9 / 12_862_131.95, 825 * 2**30 / 12_862_131.95],
    "1.5": lambda: [int(np.iinfo(np.uint16).max)],
    "1.6": lambda: [n_parameters(xl), n_parameters(openai_xl)],
    "1.7": lambda: [weight_bytes(xl, "fp32")] * 3,
    "1.8": lambda: [attention_projections()[0]],
    "1.9": lambda: pairs_flops("attention_scores"),
    "1.10": lambda: pairs_flops("attention_values"),
    "1.11": lambda: [attention_projections()[1]],
    "1.12": lambda: [product_flops("mlp.gate", "mlp.up")],
    "1.13": lambda: [product_flops("mlp.down")],
    "1.14": lambda: [blocks_flops() / 48],
    "1.15": lambda: [blocks_flops()],
    "1.16": lambda: [forward_flops(xl, batch=1, seq=1024).unembedding],
    "1.17": lambda: [forward_flops(one, batch=1, seq=1024).total for one in (xl, openai_xl)],
    "1.18": lambda: [shares(xl)["blocks"]],
    "1.19": mlp_in_block,
    "1.20": lambda: forward_figures(swiglu("gpt2-small")),
    "1.21": lambda: forward_figures(swiglu("gpt2-medium")),
    "1.22": lambda: forward_figures(swiglu("gpt2-large")),
    "1.23": long_context,
    "1.24": long_shares,
    "1.25": table_of_positions,
    "1.26": lambda: [bytes_that_stay(xl)] * 2,
    "1.27": kept_by_a_block,
    "1.28": kept_by_a_sequence,
    "1.29": peaks_of_two,
    "1.30": lambda: [4 * listed_activations(xl, batch=1, seq=1024), bytes_that_stay(xl)],
    "1.31": batches_by_the_formula,
    "1.32": adamw_flops,
    "1.33": assignment_run,
    "1.34": flops_of_a_parameter,
    "1.35": lambda: [a100_rate("fp32"), a100_rate("tf32"), a100_rate("bf16")],
    "1.36": assignment_seconds,
    "1.37": lambda: [
        n_parameters(model("tinystories-17m")), peak("tinystories-17m", "plain", 448),
        448, presets["tinystories-17m"]["context"],
    ],
    "1.38": trend,
}  # fmt: skip


# The guide's example: no positions and no last norm, biases in the feed-forward network alone.
guide = replace(fifty_thousand, positions="none")


def guide_layer() -> int:
    """Parameters of a layer by the guide's formulas."""
    return in_blocks(guide) // 12 - tensor(guide, "attention.qkv.bias", "attention.output.bias")


def guide_total() -> int:
    return 12 * guide_layer() + count_parameters(guide).token_embedding


def guide_memory(n_bits: int) -> Values:
    as_multiplied, right = (n * n_bits // 8 for n in (int(said("2.7")[0]), guide_total()))
    return [as_multiplied, right]


def inference_memory() -> Values:
    cache_bytes = kv_cache_bytes(small, batch=1, seq=1024, bytes_per_number=4)
    return [cache_bytes, 1024, 4 * fifty_thousand.padded_vocab]


def training_memory() -> Values:
    one, eight = (peak("gpt2-small", "efficient", batch) for batch in (1, 8))
    return [16 * said("2.7")[0], one, 1, 1024, eight, 8]


def bytes_of_a_token() -> Values:
    batch = fake_batch(3, 5, packed=False)
    inputs, targets = (tensor.nbytes / 15 for tensor in (batch.inputs, batch.targets))
    assert sum(tensor.nbytes for tensor in batch.tensors()) == 15 * (inputs + targets)
    return [bytes_that_stay(small) / n_parameters(small), inputs + targets, inputs, targets]


def kept_by_a_gpt2_block() -> Values:
    norm, attention, feed_forward = 4, 2 + 2, 2 + 8 + 2
    work = workload(8, precision="bf16")
    eager = block_keeps(padded, replace(work, attention="plain"))
    fused, nothing = block_keeps(padded, replace(work, attention="flash"))
    assert nothing == 0
    listed = norm + attention + feed_forward
    return [listed, listed + norm, *eager, fused]


def bytes_of_a_logit() -> Values:
    n_logits = 8 * 1024 * padded.padded_vocab
    plain = plain_loss_bytes(8 * 1024, padded.padded_vocab)
    (ours,) = [
        term for term in loss_temporaries(padded, workload(8)) if term.name.startswith("logits")
    ]
    return [plain / n_logits, plain, 8, 1024, ours.n_bytes]


def growths() -> Values:
    law = PowerLaw(scale=1.0, exponent=0.07)
    return [
        law.growth_for(1 / 10),
        law.growth_for(1 / 1.1),
        law.growth_for(0.9),
        kaplan_parameters.growth_for(0.9),
    ]


def gpt3_layer() -> Values:
    as_written = 8 * gpt3.d_model**2 + 8 * gpt3.d_model * gpt3.d_hidden + 2 * gpt3.d_model
    return [in_blocks(matrices_only(gpt3)) / 96, in_blocks(gpt3) / 96, as_written]


def gpt3_outside() -> Values:
    outside = n_parameters(gpt3) - in_blocks(gpt3)
    return [outside, outside / n_parameters(gpt3)]


web_guide: dict[str, Callable[[], Values]] = {
    "2.1": lambda: [tensor(guide, *(f"mlp.{m}.{k}" for m in ("up", "down")
                                    for k in ("weight", "bias")))],
    "2.2": lambda: [count_parameters(guide).token_embedding],
    "2.3": lambda: [
        tensor(guide, "attention.qkv.weight", "attention.output.weight"),
        tensor(guide, "attention.qkv.bias", "attention.output.bias"),
    ],
    "2.4": lambda: [parameters_per_norm(guide)],
    "2.5": lambda: [guide_layer(), in_blocks(guide) / 12],
    "2.6": lambda: [12 * guide_layer()],
    "2.7": lambda: [
        guide_total(),
        guide_total() + count_parameters(replace(guide, tie_embeddings=False)).unembedding,
        n_parameters(small),
    ],
    "2.8": lambda: guide_memory(number_formats["fp32"].n_bits),
    "2.9": lambda: guide_memory(number_formats["fp16"].n_bits),
    "2.10": inference_memory,
    "2.11": training_memory,
    "2.12": bytes_of_a_token,
    "2.13": kept_by_a_gpt2_block,
    "2.14": bytes_of_a_logit,
    "2.15": lambda: [kaplan_parameters.exponent],
    "2.16": growths,
    "2.17": lambda: [gpt3.d_hidden],
    "2.18": gpt3_layer,
    "2.19": lambda: [1.1e9 * 96, in_blocks(gpt3)],
    "2.20": gpt3_outside,
    "2.21": lambda: [n_parameters(gpt3)],
}  # fmt: skip


@cache
def short_run() -> RunConfig:
    """The notes' run, as our recipe has it."""
    changes = ["training.n_steps=953", "schedule.warmup=100", "training.micro_batch=8"]
    return load_settings(RunConfig, recipe, changes).config


def decayed(wanted: bool) -> Values:
    found = [one.n_parameters for one in tensor_counts(padded) if one.is_matrix == wanted]
    return [sum(found), len(found)]


def blocks_by_part() -> Values:
    matrices = in_blocks(matrices_only(padded))
    return [matrices, in_blocks(replace(padded, norm="none")), in_blocks(padded)]


def norms_in_blocks() -> Values:
    without_shift = replace(padded, bias=False)
    return [count_parameters(one).norms - last_norm(one) for one in (padded, without_shift)]


def padded_vocabulary() -> Values:
    rows = model("gpt2-small", vocab_multiple=64).padded_vocab
    assert rows % 64 == rows % 128 == 0
    assert rows & (rows - 1)  # no power of two
    return [rows, rows // 64, 64, rows // 128, 128]


def padding_costs() -> Values:
    config = model("gpt2-small", vocab_multiple=64)
    with_it, without = (
        forward_flops(one, batch=1, seq=1024).unembedding for one in (config, small)
    )
    return [count_parameters(config).padding, with_it / without - 1]


def tokens_of_a_step() -> Values:
    config = short_run()
    n_portions = config.batch_size / 8
    assert n_portions == 64
    return [config.batch_size * config.model.context, n_portions]


def warmups() -> Values:
    whole = load_settings(RunConfig, recipe, []).config
    runs = [short_run(), whole]
    return [run.schedule.warmup / run.training.n_steps for run in runs]


def learning_rates() -> Values:
    run = short_run()
    last = learning_rate(run.schedule, step=952, n_steps=953)
    assert run.schedule.peak_lr == 6e-4
    return [run.schedule.peak_lr / last]


def best_tokens() -> Values:
    n, seventy = n_parameters(padded), 70e9
    fits = hoffmann, besiroglu
    return [
        *(fit.optimal_tokens(n) / n for fit in fits),
        *(fit.optimal_tokens(seventy) / seventy for fit in fits),
        seventy,
    ]


def tokens_seen() -> Values:
    n = n_parameters(padded)
    assert short_run().n_tokens < 0.25 * chinchilla_tokens(n)
    return [100e6 / n, short_run().n_tokens / n]


def t4_memory() -> Values:
    usable = device_named("t4").usable_bytes
    needed = {
        batch: peak("gpt2-small", "efficient", 512, "model.vocab_multiple=64",
                    micro_batch=batch, on="t4", dtype=torch.float16)
        for batch in (8, 32)
    }  # fmt: skip
    assert needed[8] < usable
    return [needed[8], usable, needed[32], 32]


def without_quadratic_memory() -> Values:
    eager, fused = (
        block_keeps(small, workload(8, attention=kind))[1] for kind in ("plain", "efficient")
    )
    peaks = [peak("gpt2-small", kind, 8) for kind in ("efficient", "plain")]
    return [fused, eager, *peaks, 8, 1024]


notes: dict[str, Callable[[], Values]] = {
    "3.1": lambda: [
        n_parameters(padded), padded.head_width, padded.d_hidden, n_parameters(small),
        count_parameters(padded).position_embedding,
    ],
    "3.2": lambda: decayed(True),
    "3.3": lambda: decayed(False),
    "3.4": lambda: [n_parameters(padded)] * 2,
    "3.5": lambda: [
        count_parameters(padded).token_embedding, count_parameters(padded).position_embedding
    ],
    "3.6": blocks_by_part,
    "3.7": norms_in_blocks,
    "3.8": lambda: [blocks_by_part()[1] - blocks_by_part()[0]],
    "3.9": lambda: [last_norm(padded)],
    "3.10": lambda: [38.6e6 + 0.79e6 + 85.0e6 + 18e3 + 100e3 + 1.5e3],
    "3.11": lambda: [small.context, gpt3.context],
    "3.12": padded_vocabulary,
    "3.13": padding_costs,
    "3.14": tokens_of_a_step,
    "3.15": lambda: [500_000_000 // short_run().training.batch_tokens, short_run().n_tokens],
    "3.16": warmups,
    "3.17": learning_rates,
    "3.18": lambda: [chinchilla_tokens(n_parameters(padded))],
    "3.19": best_tokens,
    "3.20": tokens_seen,
    "3.21": lambda: [300e9, six_n_d(n_parameters(gpt3), 300_000_000_000)],
    "3.22": lambda: [1 / 4],
    "3.23": t4_memory,
    "3.24": without_quadratic_memory,
}  # fmt: skip


def per_billion(bytes_per_parameter: float) -> float:
    return bytes_per_parameter * 1e9


def beyond_weights_and_adamw() -> Values:
    """Bytes a parameter at the peak, when gradients are not there yet."""
    found = {
        preset: peak(preset, "efficient", 8) / n_parameters(model(preset)) - 12
        for preset in ("gpt2-xl", "gpt2-small")
    }
    return [found["gpt2-xl"], found["gpt2-small"], 8, 1024]


def bits_said(figure_id: str) -> int:
    return int(figure_named(figure_id).said.replace(" ", ""), 2)


def pi_in_fp32() -> Values:
    fp32 = number_formats["fp32"]
    assert bits_said("4.10") == fp32.pattern(3.141592)
    return [fp32.pattern(3.141592), fp32.nearest(3.141592), fp32.pattern(math.pi)]


def pi_in_fp16() -> Values:
    fp16 = number_formats["fp16"]
    assert bits_said("4.11") == fp16.pattern(math.pi)
    return [fp16.pattern(math.pi), fp16.nearest(math.pi)]


def other_formats() -> Values:
    rows = {row.name: row for row in formats_table()}
    bf16, int8 = rows["bf16"], rows["int8"]
    assert bf16.pi_pattern is not None and bf16.pi is not None
    sizes = {name: rows[name].billion_parameters_bytes for name in rows}
    assert sizes["bf16"] == sizes["fp16"]
    pattern = int(bf16.pi_pattern, 16)
    return [
        pattern, bf16.pi, bf16.largest, int8.largest, sizes["fp32"], sizes["bf16"], sizes["int8"]
    ]  # fmt: skip


def out_of_memory() -> Values:
    there, allocated, reserved, free, wanted = said("4.13")
    assert free < wanted < reserved - allocated
    return [there - reserved - free, reserved - allocated]


def first_transformer() -> Values:
    seconds, n_gpus = said("4.14")
    return [n_gpus * seconds * 9.5e12, 9.5e12]


slides: dict[str, Callable[[], Values]] = {
    "4.1": lambda: [weight_matrix_parameters(catalogue["gpt3-175b"]), n_parameters(gpt3)],
    "4.2": lambda: [count_parameters(gpt3).token_embedding],
    "4.3": lambda: [count_parameters(matrices_only(gpt3)).attention / 4],
    "4.4": lambda: [count_parameters(matrices_only(gpt3)).mlp / 2],
    "4.5": lambda: [formats_table()[0].billion_parameters_bytes] * 3,
    "4.6": lambda: [
        per_billion(bytes_by_the_rule_of_24()),
        per_billion(bytes_that_stay(small) / n_parameters(small)),
    ],
    "4.7": lambda: [n * per_billion(bytes_by_the_rule_of_24()) for n in (175, 500)],
    "4.8": lambda: [4 + 8 + 4 + 8, bytes_that_stay(small) / n_parameters(small)],
    "4.9": beyond_weights_and_adamw,
    "4.10": pi_in_fp32,
    "4.11": pi_in_fp16,
    "4.12": other_formats,
    "4.13": out_of_memory,
    "4.14": first_transformer,
    "4.15": list,
}

right_values = gpt2_small | assignment | web_guide | notes | slides


def said(figure_id: str) -> list[float]:
    """The numbers that a document gives, where the right value is made of them."""
    return [quantity.value for quantity in quantities(figure_named(figure_id).said)]
