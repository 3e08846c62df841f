import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import small
from modelwright.data.loader import Chunks
from modelwright.data.packing import Packed
from modelwright.model.block_kernels import gpu_heads, gpu_hidden_units
from modelwright.model.cross_entropy import usual_chunk
from modelwright.model.fp8 import fp8_product
from modelwright.model.gpu_kernels import gpu_surprise_and_slope
from modelwright.model.linear import Linear, plain_product
from modelwright.training import assembly, choices
from modelwright.training.assembly import (
    Prepared,
    fresh_state,
    make_loader,
    measure_step_seconds,
    model_config,
    prepare,
    set_way_of_working,
)
from modelwright.training.precision import NoLossScale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where the data of `small.run_config` is built already."""
    place = tmp_path_factory.mktemp("data")
    prepare(small.run_config(place))
    return place


def prepared(folder: Path, *changes: str, **options: Any) -> Prepared:
    return prepare(small.run_config(folder, *changes), **options)


def test_the_cut_is_the_one_that_is_named(folder: Path):
    assert isinstance(prepared(folder).cut, Chunks)
    packed = prepared(folder, "training.cut=packed")
    assert isinstance(packed.cut, Packed)
    assert isinstance(packed.validation, Packed)
    with make_loader(packed) as batches:
        assert batches.batch(0).documents is not None


def test_validation_text_shorter_than_a_context_is_one_sample(folder: Path):
    data = prepared(folder).data
    context = len(data.validation) + 10
    config = small.run_config(
        folder, f"model.context={context}", f"training.batch_tokens={context}"
    )
    cut = assembly.make_cut(config, data.validation, data.tokenizer, is_long=False)
    assert (len(cut), cut.context) == (1, len(data.validation) - 1)
    with pytest.raises(ValueError, match="fewer than one context"):
        assembly.make_cut(config, data.validation, data.tokenizer)


def test_a_new_model_has_its_initial_weights_and_another_waits_for_a_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    monkeypatch.setattr(assembly, "set_initial_weights", lambda *_: calls.append("set"))
    prepared(folder)
    assert calls == ["set"]
    prepared(folder, is_new=False)
    assert calls == ["set"]


def test_a_seed_and_a_rule_decide_the_first_weights(folder: Path):
    def first(*changes: str) -> torch.Tensor:
        return prepared(folder, *changes).model.embedding.weight.detach()

    assert torch.equal(first(), first())
    assert not torch.equal(first(), first("seed=2"))
    assert not torch.equal(first(), first("initial.rule=gpt2"))


def test_a_fresh_state_has_what_the_config_asks_for(folder: Path):
    plain = fresh_state(prepared(folder))
    assert plain.average is None
    assert isinstance(plain.loss_scale, NoLossScale)
    assert (plain.step, plain.micro_batch, plain.left_out) == (0, 2, [])
    averaged = fresh_state(prepared(folder, "training.average_decay=0.9"))
    assert averaged.average is not None
    assert averaged.average.decay == 0.9
    assert fresh_state(prepared(folder, "training.precision=fp16")).loss_scale.value == 2.0**16


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(folder: Path):
    data = prepared(folder).data
    config = small.run_config(folder)
    assert model_config(config, data.tokenizer).vocab_size == 300
    larger = dataclasses.replace(config.model, vocab_size=512)
    assert model_config(dataclasses.replace(config, model=larger), data.tokenizer).vocab_size == 512
    fewer = dataclasses.replace(
        config, tokenizer=dataclasses.replace(config.tokenizer, vocab_size=280)
    )
    fewer = dataclasses.replace(fewer, model=dataclasses.replace(config.model, vocab_size=290))
    with pytest.raises(ValueError, match=r"model\.vocab_size is 290, but .* has 300 tokens"):
        model_config(fewer, data.tokenizer)


def test_no_validation_text_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    data = prepared(folder).data
    without = dataclasses.replace(data, validation=[])  # type: ignore[arg-type]
    monkeypatch.setattr(assembly, "open_or_build", lambda *_, **__: without)
    with pytest.raises(ValueError, match="validation_fraction = 0.1 leaves no validation text"):
        prepared(folder)


def test_measuring_a_step_leaves_the_model_as_it_was(folder: Path):
    ready = prepared(folder)
    before = [p.detach().clone() for p in ready.model.parameters()]
    assert measure_step_seconds(ready, n_steps=2) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, ready.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.kernels=triton", "training.kernels is 'triton', but .* device is 'cpu'"),
        ("training.fp8=true", "training.fp8 is true, but the device is 'cpu'"),
        ("training.recompute=auto", "training.recompute is 'auto', which the plan"),
        ("training.cuda_graph=true", "training.cuda_graph is true, but only an NVIDIA GPU"),
    ],
)
def test_what_is_not_to_be_had_here_is_refused_before_anything_is_built(
    tmp_path: Path, change: str, message: str
):
    with pytest.raises(ValueError, match=message):
        prepare(small.run_config(tmp_path, change))
    assert not (tmp_path / "data").exists()


def test_the_kernels_that_a_config_names_reach_the_model(tmp_path: Path):
    config = small.run_config(tmp_path, "training.fp8=true", "training.kernels=triton")
    model = small.model(d_model=32, n_heads=2, d_ff=64, dtype=torch.bfloat16)
    set_way_of_working(model, config, in_lanes=False, is_compiled=False)
    assert model.slope_of is gpu_surprise_and_slope
    layers = [one for one in model.blocks.modules() if isinstance(one, Linear)]
    assert all(layer.multiply is fp8_product for layer in layers)
    assert model.unembedding.multiply is plain_product


@pytest.mark.parametrize("kernels", ["triton", "torch", "auto"])
def test_the_kernels_of_a_gpu_reach_loss_and_blocks(
    tmp_path: Path, kernels: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(choices, "suits_gpu_kernel", lambda device: True)
    config = small.run_config(tmp_path, f"training.kernels={kernels}")
    model = small.model(mlp="gelu_tanh", bias=True)
    set_way_of_working(model, config, in_lanes=False, is_compiled=False)
    is_ours = kernels != "torch"
    assert (model.slope_of is gpu_surprise_and_slope) == is_ours
    assert model.loss_chunk == (
        usual_chunk("cuda", 48, in_place=torch.float32) if is_ours else None
    )
    block: Any = model.blocks[0]
    assert (block.attention.heads_of is gpu_heads) == is_ours
    assert (block.mlp.hidden_units is gpu_hidden_units) == is_ours
    own = small.run_config(tmp_path, f"training.kernels={kernels}", "training.loss_chunk=7")
    set_way_of_working(model, own, in_lanes=False, is_compiled=False)
    assert model.loss_chunk == 7
