from pathlib import Path

import pytest

import small
from modelwright.accounting.flops import training_flops
from modelwright.data.folder import Data
from modelwright.experiments.ladder import Ladder, lay_out, load_ladder, shared_study
from modelwright.runtime.progress import nobody
from modelwright.training.assembly import make_cut, model_config, open_or_build

shared = """
[set]
"data.stories_bytes" = 60_000
"data.validation_fraction" = 0.1
"tokenizer.vocab_size" = 300
"model.context" = 16
"model.n_heads" = 2
"training.batch_tokens" = 64
"training.device" = "cpu"
"evaluation.n_tokens" = 64
"""
two_sizes = """
[[size]]
d_model = 16
n_layers = 1

[[size]]
name = "wide"
d_model = 32
n_layers = 1
set = { "schedule.peak_lr" = 0.001 }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    config = small.run_config(tmp_path_factory.mktemp("ladder"))
    return open_or_build(config, nobody, is_new=True)


def laid_out(
    place: Path, data: Data, text: str, *, top: str = "", with_check: bool = False, overrides=()
) -> Ladder:
    path = place / "small.toml"
    path.write_text(f"{top}\n{shared}\n{text}")
    config = load_ladder(path)
    study = shared_study(path, config, overrides)
    return lay_out(study, config, data, with_check=with_check)


def configs(ladder: Ladder):
    return {
        v.name: ladder.study.run_config(v, ladder.study.seeds[0]) for v in ladder.study.variants
    }


def test_a_budget_in_flops_gives_each_size_as_many_tokens_as_cost_it(tmp_path, data):
    ladder = laid_out(tmp_path, data, two_sizes + "[[budget]]\nflops = 2e8\n")
    runs = configs(ladder)
    assert list(runs) == ["16x1_2e8", "wide_2e8"]
    for config in runs.values():
        shape = model_config(config, data.tokenizer)
        flops = training_flops(shape, batch=config.batch_size, seq=16) * config.training.n_steps
        assert flops == pytest.approx(2e8, rel=0.02)
    steps = [config.training.n_steps for config in runs.values()]
    assert steps[0] > 2 * steps[1]
    assert runs["wide_2e8"].schedule.peak_lr == 0.001 != runs["16x1_2e8"].schedule.peak_lr


def test_budgets_in_tokens_and_in_tokens_per_parameter(tmp_path, data):
    text = two_sizes + "[[budget]]\ntokens = 6400\n[[budget]]\ntokens_per_parameter = 0.5\n"
    runs = configs(laid_out(tmp_path, data, text))
    assert runs["16x1_0.0064M"].training.n_steps == runs["wide_0.0064M"].training.n_steps == 100
    ratio = runs["wide_0.5x"].training.n_steps / runs["16x1_0.5x"].training.n_steps
    assert 2 < ratio < 4


def test_each_run_measures_its_loss_as_often_as_asked_and_saves_at_its_end(tmp_path, data):
    text = two_sizes + "[[budget]]\ntokens = 6400\n"
    config = configs(laid_out(tmp_path, data, text, top="n_evaluations = 4"))["wide_0.0064M"]
    assert config.evaluation.every_steps == 25
    assert config.checkpoints.every_steps == 100
    assert config.samples.prompts == ()


def test_runs_that_would_repeat_text_are_refused_left_out_or_told(tmp_path, data):
    there = len(make_cut(small.run_config(tmp_path), data.train, data.tokenizer)) * 16
    text = two_sizes + f"[[budget]]\ntokens = 6400\n[[budget]]\ntokens = {there + 640}\n"
    with pytest.raises(
        ValueError, match=f"2 of 4 runs would see text twice.* has {there:,} to learn"
    ):
        laid_out(tmp_path, data, text)
    left = laid_out(tmp_path, data, text, top='repeats = "leave_out"')
    assert len(left.study.variants) == 2 and len(left.left_out) == 2
    allowed = laid_out(tmp_path, data, text, top='repeats = "allow"')
    assert len(allowed.study.variants) == 4 and len(allowed.repeating) == 2
    assert left.n_unique_tokens == there


def test_the_check_is_outside_the_fit(tmp_path, data):
    text = (
        two_sizes
        + "[[budget]]\ntokens = 6400\n[check.size]\nd_model = 48\nn_layers = 1\n[check.budget]\ntokens = 9600\n"
    )
    without = laid_out(tmp_path, data, text)
    ladder = laid_out(tmp_path, data, text, with_check=True)
    assert [v.name for v in ladder.study.variants] == [*without.fitted, "48x1_0.0096M-check"]
    assert ladder.fitted == without.fitted
    with pytest.raises(ValueError, match=r"has no \[check\] section"):
        laid_out(tmp_path, data, two_sizes + "[[budget]]\ntokens = 6400\n", with_check=True)


def test_a_ladder_that_will_show_no_law_says_so_before_it_is_trained(tmp_path, data):
    third = "[[size]]\nd_model = 48\nn_layers = 1\n"
    flops = "".join(f"[[budget]]\nflops = {n}e8\n" for n in (2, 4))
    found = {
        text: laid_out(tmp_path, data, text).undetermined
        for text in (
            two_sizes + flops,
            two_sizes + third + "[[budget]]\nflops = 2e8\n",
            two_sizes + third + "".join(f"[[budget]]\ntokens = {n}\n" for n in (1600, 3200)),
            two_sizes + third + flops,
        )
    }
    few_sizes, few_runs, few_lengths, enough = found.values()
    assert "2 different sizes of model" in few_sizes
    assert "train 1 more" in few_sizes
    assert "there are 3 runs" in few_runs
    assert "2 different numbers of tokens (1,600, 3,200)" in few_lengths
    assert enough == ""


def test_a_budget_may_name_its_sizes(tmp_path, data):
    ladder = laid_out(tmp_path, data, two_sizes + '[[budget]]\ntokens = 6400\nsizes = ["wide"]\n')
    assert ladder.fitted == ("wide_0.0064M",)
    with pytest.raises(ValueError, match="names the size 'tall'; the sizes are 16x1, wide"):
        laid_out(tmp_path, data, two_sizes + '[[budget]]\ntokens = 6400\nsizes = ["tall"]\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[budget]]\nflops = 1e9\ntokens = 5\n", "but flops and tokens is given"),
        ("[[budget]]\nname = 'x'\n", "but none of them is given"),
        ("[[budget]]\nflops = -1\n", r"budget.flops is -1.0; choose a number above 0"),
        ("[[budget]]\ntokens = 128\n", "would have 2 steps of 64 tokens; raise the budget"),
        ("[[budget]]\ntokens = 6400\n[[budget]]\ntokens = 6400\n", "two budgets .* same name"),
        ("[[size]]\nname = 'wide'\n[[budget]]\ntokens = 6400\n", "two sizes .* called 'wide'"),
        ("[[size]]\nname = 'a/b'\n[[budget]]\ntokens = 6400\n", "becomes part of a folder's name"),
    ],
)  # fmt: skip
def test_what_cannot_be_laid_out_is_told(tmp_path, data, text, message):
    with pytest.raises(ValueError, match=message):
        laid_out(tmp_path, data, two_sizes + text)


@pytest.mark.parametrize("override", ["training.n_steps=5", "seed=3"])
def test_what_the_ladder_decides_cannot_be_set_for_all(tmp_path, data, override):
    with pytest.raises(ValueError, match=f"{override.split('=')[0]} is set for all runs"):
        laid_out(tmp_path, data, two_sizes + "[[budget]]\ntokens = 6400\n", overrides=[override])


@pytest.mark.parametrize("name", ["toy", "english"])
def test_the_recipes_can_be_read(name):
    path = Path(__file__).parents[3] / "recipes" / "scaling" / f"{name}.toml"
    config = load_ladder(path)
    study = shared_study(path, config)
    for size in config.size:
        variant = study.variants[0].__class__(name="x", changes=size.changes)
        assert study.run_config(variant, 1).model.d_model == size.d_model
    assert config.check is not None


def test_the_command_line_cannot_change_what_sizes_differ_in(tmp_path: Path, data: Data):
    text = two_sizes + "[[budget]]\ntokens = 4000\n"
    for override in ("model.d_model=8", "schedule.peak_lr = 0.5"):
        name = override.partition("=")[0].strip()
        message = f"--set {name} is for all runs, but .*small.toml has a size with .* of its own"
        with pytest.raises(ValueError, match=message):
            laid_out(tmp_path, data, text, overrides=[override])
    laid_out(tmp_path, data, text, overrides=["schedule.floor=0.5"])


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("training.n_steps", 50, "the budgets"),
        ("seed", 3, "seeds"),
        ("evaluation.every_steps", 5, "n_evaluations"),
    ],
)
def test_no_setting_is_what_the_ladder_decides(
    tmp_path: Path, data: Data, name: str, value: int, other: str
):
    budget = "[[budget]]\ntokens = 4000\n"
    size = f'[[size]]\nd_model = 16\nn_layers = 1\nset = {{ "{name}" = {value} }}\n'
    with pytest.raises(ValueError, match=f"{name} is set for a size, but .* {other} of the ladder"):
        laid_out(tmp_path, data, size + budget)
    path = tmp_path / "all.toml"
    path.write_text(f'[set]\n"{name}" = {value}\n{two_sizes}{budget}')
    with pytest.raises(ValueError, match=f"{name} is set for all runs, but .* {other} of the lad"):
        load_ladder(path)


def test_a_ladder_has_a_name_that_a_folder_can_have(tmp_path: Path, data: Data):
    with pytest.raises(ValueError, match=r"name is '\.\.', but it becomes part of a folder's name"):
        laid_out(tmp_path, data, two_sizes + "[[budget]]\ntokens = 4000\n", top='name = ".."')
