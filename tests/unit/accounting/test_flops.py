import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import small
from modelwright.accounting.flops import (
    forward_flops,
    hardware_flops,
    hfu,
    mfu,
    six_n_d,
    six_n_d_gap,
    step_flops,
    training_flops,
    visible_pairs,
)
from modelwright.accounting.parameters import count_parameters
from modelwright.model.attention import Visibility
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer

small_gpt2: dict[str, Any] = {"n_layers": 12, "d_model": 768, "n_heads": 12}
medium_gpt2: dict[str, Any] = {"n_layers": 24, "d_model": 1024, "n_heads": 16}
large_gpt2: dict[str, Any] = {"n_layers": 36, "d_model": 1280, "n_heads": 20}
xl_gpt2: dict[str, Any] = {"n_layers": 48, "d_model": 1600, "n_heads": 25}


def gpt2_with_swiglu(shape: dict[str, Any], context: int) -> ModelConfig:
    """GPT-2's shape with an MLP of three matrices, as in the first table of shared/figures.md."""
    return ModelConfig(
        vocab_size=50257, context=context, mlp="swiglu", d_ff=4 * shape["d_model"], **shape
    )


@pytest.mark.parametrize(
    ("shape", "seq", "published"),
    [
        (small_gpt2, 1024, 349_630_365_696),
        (medium_gpt2, 1024, 1_033_109_504_000),
        (large_gpt2, 1024, 2_257_754_521_600),
        (xl_gpt2, 1024, 4_513_336_524_800),
        (xl_gpt2, 16_384, 149_522_795_724_800),
    ],
)
def test_a_forward_pass_costs_the_published_figure(shape: dict[str, Any], seq: int, published: int):
    assert forward_flops(gpt2_with_swiglu(shape, seq), batch=1, seq=seq).total == published


def test_gpt2_xl_as_it_was_published_has_an_mlp_of_two_matrices():
    config = ModelConfig(vocab_size=50257, context=1024, mlp="gelu_tanh", bias=True, **xl_gpt2)
    assert forward_flops(config, batch=1, seq=1024).total == 3_506_703_564_800


options: list[dict[str, Any]] = [
    {},
    {"n_kv_heads": None},
    {"n_kv_heads": 1},
    {"mlp": "gelu"},
    {"mlp": "gelu_tanh"},
    {"mlp": "silu"},
    {"mlp": "relu2"},
    {"mlp": "swiglu", "d_ff": None},
    {"d_head": 10},
    {"qk_norm": True},
    {"norm": "none"},
    {"norm": "layernorm", "bias": True},
    {"positions": "learned"},
    {"tie_embeddings": False},
    {"vocab_multiple": 16},
    {"window": 3},
    {"placement": "post"},
]


@pytest.mark.parametrize("changes", options, ids=str)
def test_the_closed_form_counts_what_the_model_multiplies(changes: dict[str, Any]):
    config = small.model_config(**changes)
    batch, seq = 3, 7
    with torch.device("meta"):
        model = Transformer(config, attention="plain")
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.zeros(batch, seq, dtype=torch.int64))
    assert forward_flops(config, batch=batch, seq=seq).total == counter.get_total_flops()


def test_each_component_is_that_of_the_traced_module():
    config = small.model_config(n_layers=1)
    with torch.device("meta"):
        model = Transformer(config, attention="plain")
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.zeros(2, 5, dtype=torch.int64))
    traced = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    flops = forward_flops(config, batch=2, seq=5)
    block = "Transformer.blocks.0"
    assert flops.mlp == traced[f"{block}.mlp"]
    assert flops.unembedding == traced["Transformer.unembedding"]
    attention = flops.projections + flops.attention_scores + flops.attention_values
    assert attention == traced[f"{block}.attention"]
    projections = traced[f"{block}.attention.qkv"] + traced[f"{block}.attention.output"]
    assert flops.projections == projections


def test_the_components_sum_to_the_total():
    flops = forward_flops(gpt2_with_swiglu(small_gpt2, 1024), batch=2, seq=1024)
    assert sum(dataclasses.asdict(flops).values()) == flops.total


def test_a_backward_pass_costs_two_forward_passes():
    config = small.model_config()
    model = Transformer(config, attention="plain")
    counter = FlopCounterMode(display=False)
    with counter:
        model(small.ids(2, 6)).sum().backward()
    assert training_flops(config, batch=2, seq=6) == counter.get_total_flops()


def test_without_a_vocabulary_there_is_no_count():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        forward_flops(ModelConfig(), batch=1, seq=1)


kinds = ("plain", "striped", "math", "flash", "efficient", "cudnn")
windows = st.none() | st.integers(1, 14)


@given(seq=st.integers(1, 12), window=windows)
def test_the_visible_pairs_are_those_of_the_mask(seq: int, window: int | None):
    visible = Visibility(window)(seq, None, torch.device("cpu"))
    expected = torch.ones(seq, seq).tril().sum() if visible is None else visible.sum()
    assert visible_pairs(seq, window) == expected


@given(batch=st.integers(1, 5), seq=st.integers(1, 11), window=windows)
def test_hidden_pairs_are_left_out_of_the_attention_alone(batch: int, seq: int, window: int | None):
    config = small.model_config(window=window)
    full = forward_flops(config, batch=batch, seq=seq)
    causal = forward_flops(config, batch=batch, seq=seq, causal=True)
    share = visible_pairs(seq, window)
    assert causal.attention_scores * seq**2 == full.attention_scores * share
    assert causal.attention_values * seq**2 == full.attention_values * share
    assert (causal.projections, causal.mlp, causal.unembedding) == (
        full.projections,
        full.mlp,
        full.unembedding,
    )


def test_without_a_window_a_causal_kernel_does_half_of_the_pairs_and_the_diagonal():
    assert 2 * 1024 * visible_pairs(1024) == (1024 + 1) * 1024 * 1024


@given(batch=st.integers(1, 6), seq=st.integers(1, 11), kind=st.sampled_from(kinds))
def test_work_grows_with_the_batch_evenly_and_with_its_length_faster(
    batch: int, seq: int, kind: Any
):
    config = small.model_config()

    def total(batch: int, seq: int) -> int:
        return hardware_flops(config, batch=batch, seq=seq, attention=kind).total

    assert total(batch, seq) == batch * total(1, seq)
    assert total(batch, 2 * seq) > 2 * total(batch, seq)


def test_a_step_is_the_training_flops_divided_among_components():
    config = small.model_config()
    step = step_flops(config, batch=2, seq=6)
    forward = dataclasses.asdict(forward_flops(config, batch=2, seq=6))
    assert {name: part.forward for name, part in step.components.items()} == forward
    assert {name: part.backward for name, part in step.components.items()} == {
        name: 2 * flops for name, flops in forward.items()
    }
    assert step.recompute == 0
    assert step.total == training_flops(config, batch=2, seq=6)


def test_flash_goes_back_through_the_published_number_of_flops():
    config = ModelConfig(**ModelConfig.presets["gpt2-xl-swiglu"])
    step = hardware_flops(config, batch=1, seq=1024, attention="flash")
    assert step.forward == 4_513_336_524_800
    assert step.backward + step.recompute == 9_187_734_323_200
    assert step.recompute == step.attention_scores.recompute == 48 * 2 * 1024**2 * 1600


@pytest.mark.parametrize("kind", kinds)
def test_only_fused_kernels_compute_the_scores_twice(kind: Any):
    config = small.model_config()
    step = hardware_flops(config, batch=2, seq=7, attention=kind)
    again = step.attention_scores.forward if kind in ("flash", "efficient", "cudnn") else 0
    assert step.recompute == again
    assert step.forward + step.backward == training_flops(config, batch=2, seq=7)


@pytest.mark.parametrize(("every", "n_blocks"), [(1, 5), (2, 3), (3, 2), (5, 1), (9, 1)])
def test_every_nth_block_is_computed_again(every: int, n_blocks: int):
    config = small.model_config(n_layers=5, dropout=0.1)
    step = hardware_flops(
        config, batch=1, seq=7, attention="plain", recompute="blocks", every=every
    )
    in_blocks = step.forward - step.unembedding.forward
    assert step.recompute * 5 == in_blocks * n_blocks


def test_selective_recompute_repeats_no_product():
    config = small.model_config()
    once = hardware_flops(config, batch=1, seq=7, attention="flash")
    assert once == hardware_flops(config, batch=1, seq=7, attention="flash", recompute="selective")


def test_a_kernel_skips_what_is_hidden_only_if_it_can():
    config = small.model_config(context=256)

    def scores(kind: Any, changed: ModelConfig = config, **options: Any) -> int:
        step = hardware_flops(changed, batch=1, seq=256, attention=kind, causal=True, **options)
        return step.attention_scores.forward

    every_pair = scores("plain")
    assert scores("math") == every_pair
    assert scores("flash") * 2 * 256 == every_pair * 257
    # Two stripes of 128 queries or four of 64: (s + 1) / 2s of the work.
    assert scores("striped", precision="bf16") * 4 == every_pair * 3
    assert scores("striped", precision="fp32") * 8 == every_pair * 5
    assert scores("flash", masked=True) == every_pair
    assert scores("flash", small.model_config(context=256, window=16)) == every_pair
    assert scores("striped", small.model_config(context=256, dropout=0.1)) == every_pair


@pytest.mark.parametrize("changes", [*options, {"bias": True}, {"window": 3}], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_the_gap_of_six_n_d_is_explained_in_full(changes: dict[str, Any], causal: bool):
    config = small.model_config(**changes)
    gap = six_n_d_gap(config, batch=3, seq=7, causal=causal)
    assert gap.exact == training_flops(config, batch=3, seq=7, causal=causal)
    assert gap.six_n_d == six_n_d(count_parameters(config).total, 21)
    assert gap.relative == pytest.approx(gap.six_n_d / gap.exact - 1)


def test_the_long_run_of_the_first_table_costs_what_was_recomputed():
    n_tokens = 400_000 * 1024 * 1024
    config = ModelConfig(**ModelConfig.presets["gpt2-xl-swiglu"])
    assert six_n_d(2_127_057_600, n_tokens) == 13_382_289_299_865_600 * 400_000
    gap = six_n_d_gap(config, batch=1024, seq=1024)
    assert f"{gap.six_n_d * 400_000:.4e}" == "5.3529e+21"
    assert f"{gap.exact * 400_000:.4e}" == "5.5460e+21"
    days = gap.six_n_d * 400_000 / (19.5e12 * 0.5) / 86_400
    assert round(days) == 6354


def test_utilization_is_the_share_of_the_peak():
    assert mfu(9_750, 10, 1_950) == 0.5
    config = small.model_config()
    done = hardware_flops(config, batch=2, seq=7, attention="flash").total
    needed = training_flops(config, batch=2, seq=7)
    assert hfu(done, 1.0, 1e9) > mfu(needed, 1.0, 1e9)
