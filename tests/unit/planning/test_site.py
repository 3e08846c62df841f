import dataclasses

import pytest
import torch

from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.planning.site import first_site, planned_shape, site_for
from modelwright.training.config import RunConfig

tiny = ("model.preset=laptop", "model.context=64", "training.batch_tokens=512")


def config(*overrides: str) -> RunConfig:
    return load_settings(RunConfig, None, [*tiny, *overrides]).config


@pytest.mark.parametrize(
    ("key", "settings", "dtype", "attention"),
    [
        ("h100", (), torch.bfloat16, "cudnn"),
        ("t4", (), torch.float16, "efficient"),
        ("h100", ("training.precision=tf32",), torch.float32, "efficient"),
        ("h100", ("training.cut=packed",), torch.bfloat16, "cudnn"),
        ("h100", ("model.window=8",), torch.bfloat16, "cudnn"),
        ("t4", ("training.cut=packed",), torch.float16, "efficient"),
        ("h100", ("training.cut=packed", "model.d_head=192"), torch.bfloat16, "efficient"),
        ("h100", ("model.d_head=320",), torch.bfloat16, "efficient"),
        ("h100", ("training.deterministic=true",), torch.bfloat16, "flash"),
        ("t4", ("training.deterministic=true",), torch.float16, "math"),
        ("h100", ("training.deterministic=true", "training.cut=packed"), torch.bfloat16, "math"),
        ("h100", ("training.attention=plain",), torch.bfloat16, "plain"),
    ],
)
def test_what_auto_comes_to_on_a_gpu(key: str, settings: tuple, dtype: torch.dtype, attention: str):
    site = first_site(config(*settings), device_named(key))
    assert (site.device, site.dtype, site.attention) == ("cuda", dtype, attention)
    assert site.is_compiled
    assert (site.n_lanes, site.n_batches) == (1, 4)
    assert site.capability == device_named(key).capability


def test_compiling_can_be_left_out():
    assert not first_site(config("training.compile=false"), device_named("h100")).is_compiled


def test_a_format_that_a_gpu_lacks_is_refused_with_one_that_it_has():
    with pytest.raises(ValueError, match=r"'bf16', which NVIDIA T4 does not have; use 'fp16'"):
        first_site(config("training.precision=bf16"), device_named("t4"))
    with pytest.raises(ValueError, match="'tf32', but a processor does not have it"):
        first_site(config("training.precision=tf32"), None)


def test_a_run_for_the_processor_is_not_planned_for_a_gpu():
    with pytest.raises(ValueError, match=r"training\.device is 'cpu'.*--on cpu"):
        first_site(config("training.device=cpu"), device_named("t4"))


def test_the_processor_takes_a_lane_for_each_thread_and_does_not_compile():
    site = first_site(config("training.precision=fp32"), None)
    assert (site.device, site.attention, site.is_compiled) == ("cpu", "striped", False)
    assert site.n_lanes == min(torch.get_num_threads(), 8)


def test_the_vocabulary_is_the_models_own_before_that_of_the_tokenizer():
    shape, source = planned_shape(config("tokenizer.vocab_size=300"))
    assert (shape.vocab_size, source) == (300, "tokenizer.vocab_size")
    both = config("tokenizer.vocab_size=300", "model.vocab_size=333")
    assert planned_shape(both) == (both.model, "model.vocab_size")


def test_portions_are_halved_until_they_fit():
    wide = config("model.context=1024", "training.batch_tokens=65536", "training.compile=false")
    card = dataclasses.replace(device_named("t4"), reported_bytes=2 * 2**30)
    assert first_site(wide, card).micro_batch == 64
    assert site_for(wide, device_named("h100")).micro_batch == 64
    assert site_for(wide, card).micro_batch in (8, 16, 32)
    given = dataclasses.replace(wide, training=dataclasses.replace(wide.training, micro_batch=64))
    assert site_for(given, card).micro_batch == 64


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("t4", "training.fp8=true", "training.fp8 is true, but NVIDIA T4 is too old"),
        (None, "training.fp8=true", "but a processor has no such products"),
        ("mi300x", "training.kernels=triton", "not for AMD Instinct MI300X"),
        (None, "training.kernels=triton", "not for a processor"),
    ],
)
def test_kernels_that_a_device_lacks_are_refused(key: str | None, change: str, message: str):
    with pytest.raises(ValueError, match=message):
        first_site(config(change), None if key is None else device_named(key))


@pytest.mark.parametrize(
    ("key", "change", "kernel"),
    [
        ("h100", "seed=1", "triton"),
        ("t4", "seed=1", "triton"),
        ("h100", "training.kernels=torch", "torch"),
        ("mi300x", "seed=1", "torch"),
        (None, "seed=1", "torch"),
    ],
)
def test_the_loss_is_computed_by_a_kernel_where_there_is_one(
    key: str | None, change: str, kernel: str
):
    site = first_site(config(change), None if key is None else device_named(key))
    assert site.kernels == kernel


def test_fp8_is_planned_with_bf16_around_it():
    h100 = device_named("h100")
    assert first_site(config("training.fp8=true"), h100).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="is in bf16: leave training.precision out"):
        first_site(config("training.fp8=true", "training.precision=fp16"), h100)
