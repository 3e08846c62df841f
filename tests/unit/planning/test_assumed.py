"""Whether what is assumed of a device holds the times that were measured."""

from pathlib import Path

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.planning.assumed import gpu_guesses, guessed_rates, guesses_for
from modelwright.planning.plan import make_plan
from modelwright.training.config import RunConfig

h100 = device_named("h100")
small = Path(__file__).parents[3] / "recipes" / "tinystories-17m.toml"
in_bf16 = ("training.precision=bf16", "training.compile=true", "data.source=stories")
narrow = (
    "tokenizer.vocab_size=4096", "model.context=512", "model.d_head=32", "model.qk_norm=true",
    "training.batch_tokens=8192",
)  # fmt: skip

llama_style = (
    "model.vocab_size=32768", "model.context=2048", "model.d_model=768", "model.n_layers=12",
    "model.n_heads=6", "model.mlp=relu2", "model.norm=rmsnorm", "model.positions=rope",
    "model.qk_norm=true", "model.tie_embeddings=false", "training.batch_tokens=524288",
    "training.micro_batch=32",
)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "changes", "milliseconds"),
    [
        # docs/results/train-gpu.md, an H100
        (None, ("model.preset=gpt2-small", "training.batch_tokens=8192"), 18.67),
        (None, ("model.preset=gpt2-small", "training.batch_tokens=32768"), 64.07),
        (None, ("model.preset=gpt2-small", "training.batch_tokens=65536"), 124.80),
        (
            None,
            (
                "model.preset=gpt2-small",
                "training.batch_tokens=131072",
                "training.micro_batch=128",
            ),
            241.32,
        ),
        (None, ("model.preset=gpt2-xl", "training.batch_tokens=16384"), 337.18),
        (None, llama_style, 920.83),
        # docs/results/studies/README.md, the same card, a run by itself
        (small, ("training.batch_tokens=8192",), 3.69),
    ],
    ids=["small-8", "small-32", "small-64", "small-128", "xl-16", "llama-256", "17m-32"],
)
def test_steps_that_were_measured_are_in_the_range(
    recipe: Path | None, changes: tuple[str, ...], milliseconds: float
):
    config = load_settings(RunConfig, recipe, [*in_bf16, *changes]).config
    found = make_plan(config, h100).time.step_seconds
    assert found.low < milliseconds / 1e3 < found.high


def test_a_small_models_step_is_as_long_as_its_operations_are_many():
    """Its arithmetic would take a fiftieth of the time."""
    model = ("model.d_model=64", "model.n_layers=5", "model.n_heads=2")
    deeper = ("model.d_model=64", "model.n_layers=10", "model.n_heads=2")
    one, two = (
        make_plan(load_settings(RunConfig, None, [*in_bf16, *narrow, *sets]).config, h100)
        for sets in (model, deeper)
    )
    assert one.time.mfu.high < 0.1
    assert one.work.model / h100.peaks["bf16"] < one.time.step_seconds.low / 10
    assert 1.4 < two.time.step_seconds.low / one.time.step_seconds.low < 2


def test_a_doubtful_guess_is_slower_in_everything():
    for guesses in (gpu_guesses, guesses_for(None)):
        hopeful, doubtful = guesses.hopeful, guesses.doubtful
        assert hopeful.of_peak > doubtful.of_peak
        assert hopeful.of_bandwidth > doubtful.of_bandwidth
        assert hopeful.floor < doubtful.floor


def test_a_guess_as_rates_has_its_floor():
    peak = h100.peak("bf16")
    assert peak is not None
    rates = guessed_rates(gpu_guesses.doubtful, h100, peak)
    assert rates.floor_seconds == pytest.approx(gpu_guesses.doubtful.floor, rel=0.01)
    assert rates.flops_per_second["bf16"] == pytest.approx(0.48 * peak.flops_per_second)
