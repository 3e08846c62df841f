"""What a study file comes to: its variants, the configs of its runs, and what is refused."""

from pathlib import Path

import pytest

import small_study
from modelwright.experiments.study_file import load_study, value_name

recipes = sorted((Path(__file__).parents[3] / "recipes" / "studies").glob("*.toml"))

norms = """
[[variants]]
name = "norm"

[[variants]]
name = "none"
set = { "model.norm" = "none" }
"""


def names(path: Path, *overrides: str) -> list[str]:
    return [variant.name for variant in load_study(path, overrides).variants]


def test_a_study_without_variants_has_the_base(tmp_path: Path):
    (variant,) = load_study(small_study.write(tmp_path)).variants
    assert (variant.name, dict(variant.changes)) == ("base", {})


def test_a_grid_has_a_variant_for_every_combination(tmp_path: Path):
    grid = '[grid]\n"schedule.peak_lr" = [0.01, 0.1]\n"model.bias" = [true, false]\n'
    assert names(small_study.write(tmp_path, grid)) == [
        "peak_lr-0.01_bias-true",
        "peak_lr-0.01_bias-false",
        "peak_lr-0.1_bias-true",
        "peak_lr-0.1_bias-false",
    ]


def test_a_range_goes_in_equal_ratios_and_keeps_its_ends(tmp_path: Path):
    grid = '[grid]\n"schedule.peak_lr" = { from = 1e-5, to = 1e-1, n = 5 }\n'
    study = load_study(small_study.write(tmp_path, grid))
    rates = [study.run_config(variant, 1).schedule.peak_lr for variant in study.variants]
    assert rates == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def test_named_variants_stand_at_each_point_of_a_grid(tmp_path: Path):
    grid = '[grid]\n"schedule.peak_lr" = [0.01, 0.1]\n'
    study = load_study(small_study.write(tmp_path, norms + grid))
    assert [variant.name for variant in study.variants] == [
        "norm_peak_lr-0.01",
        "norm_peak_lr-0.1",
        "none_peak_lr-0.01",
        "none_peak_lr-0.1",
    ]
    last = study.run_config(study.variants[-1], 1)
    assert (last.model.norm, last.schedule.peak_lr) == ("none", 0.1)
    assert study.baseline == "norm_peak_lr-0.01"


def test_names_tell_apart_settings_that_end_alike():
    grid = ["training.n_steps", "other.n_steps"]
    assert value_name("training.n_steps", 5, grid) == "training.n_steps-5"
    assert value_name("model.mlp", "gelu tanh", ["model.mlp"]) == "mlp-gelu-tanh"


def test_later_settings_win_recipe_study_variant_command_line(tmp_path: Path):
    (tmp_path / "base.toml").write_text("[model]\nn_layers = 7\n[schedule]\nfloor = 0.5\n")
    study = load_study(
        small_study.write(
            tmp_path,
            '[[variants]]\nname = "wide"\nset = { "model.d_model" = 32 }',
            top='base = "base.toml"',
        ),
        ["training.n_steps=9"],
    )
    config = study.run_config(study.variants[0], 5)
    assert config.schedule.floor == 0.5  # the recipe's
    assert config.model.n_layers == 1  # the study's
    assert config.model.d_model == 32  # the variant's
    assert config.training.n_steps == 9  # the command line's
    assert config.seed == 5


def test_runs_save_only_their_end_and_write_no_samples_unless_the_study_says_so(tmp_path: Path):
    study = load_study(small_study.write(tmp_path))
    config = study.run_config(study.variants[0], 1)
    assert config.checkpoints.every_steps == config.training.n_steps == 80
    assert config.samples.prompts == () and not config.training.tensorboard
    asked = '"checkpoints.every_steps" = 20\n"samples.prompts" = ["One day"]\n'
    study = load_study(small_study.write(tmp_path, set_also=asked))
    config = study.run_config(study.variants[0], 1)
    assert config.checkpoints.every_steps == 20
    assert config.samples.prompts == ("One day",)


def test_with_equal_tokens_small_batches_take_more_steps_and_are_measured_as_often(tmp_path: Path):
    grid = '[grid]\n"training.batch_tokens" = [16, 64, 128]\n'
    path = small_study.write(tmp_path, grid, top="equal_tokens = true")
    study = load_study(path)
    configs = [study.run_config(variant, 1) for variant in study.variants]
    assert [config.training.n_steps for config in configs] == [320, 80, 40]
    assert [config.evaluation.every_steps for config in configs] == [160, 40, 20]
    assert [config.checkpoints.every_steps for config in configs] == [320, 80, 40]
    study = load_study(small_study.write(tmp_path, grid))
    steps = [study.run_config(variant, 1).training.n_steps for variant in study.variants]
    assert steps == [80, 80, 80]


@pytest.mark.parametrize(
    ("text", "top", "message"),
    [
        ("", "sedes = 3", "line 1: unknown setting sedes; did you mean seeds?"),
        ("", "seeds = 0", "seeds is 0; the least is 1"),
        ("", "seeds = [1, 1]", "seeds is [1, 1]; name at least one, and none twice"),
        ("", 'name = "a/b"', "name is 'a/b', but it becomes a folder's name"),
        ("", 'base = "there"', "but there is no "),
        ("", 'baseline = "nrom"', "baseline = 'nrom', which is no variant of it; these are: base"),
        ("[grid]\nseed = [1, 2]", "", "set seeds = [...] there"),
        ('[grid]\n"model.bias" = 3', "", 'grid."model.bias" is 3, but it is a list of values'),
        (
            '[grid]\n"schedule.peak_lr" = { from = 0.0, to = 1.0, n = 3 }',
            "",
            "but it is a list of values such as [0.001, 0.01]",
        ),
        (
            '[grid]\n"model.n_layer" = [1, 2]',
            "",
            "variant n_layer-1: unknown setting model.n_layer; did you mean model.n_layers?",
        ),
        ('[grid]\n"schedule.peak_lr" = [0.1, 0.1]', "", "have the same name; leave one out"),
        (
            '[[variants]]\nname = "slow"\nset = { "schedule.peak_lr" = 0.5 }\n'
            '[grid]\n"schedule.peak_lr" = [0.1, 0.2]',
            "",
            "the variant 'slow' sets schedule.peak_lr, but the grid goes through values of it; ",
        ),
        (
            '[[variants]]\nname = "trial-7"\n[search]\nn_trials = 2\n'
            '[search.settings]\n"schedule.peak_lr" = { from = 0.1, to = 0.2 }',
            "",
            "a variant is called 'trial-7', as a trial of the search is; call it otherwise",
        ),
        ("", 'name = ".."', "name is '..', but it becomes a folder's name"),
        ("", "seeds = 2021-05-06", 'seeds is "2021-05-06", but it is a whole number'),
        (
            '[grid]\n"schedule.peak_lr" = [2021-05-06]',
            "",
            'schedule.peak_lr is "2021-05-06", but it is a number',
        ),
        (
            '[[variants]]\nname = "a"\n[[variants]]\nname = "b"',
            "",
            "the variants 'a' and 'b' have the same settings",
        ),
        (
            '[[variants]]\nname = "odd"\nset = { "model.d_model" = 17 }',
            "",
            "variant odd: model.d_model is 17, which does not split",
        ),
        ('[[variants]]\nname = "a b"', "", "variants.name is 'a b', but it becomes part of"),
        (
            '[grid]\n"training.n_steps" = [1, 2]',
            "equal_tokens = true",
            "training.n_steps varies, but with equal_tokens = true it follows",
        ),
        (
            '[bisection]\nsetting = "schedule.peak_lr"\ntrains = 1e-3',
            "",
            "bisection.diverges is 0.0; both ends are numbers above 0",
        ),
        (
            '[bisection]\nsetting = "schedule.peak_ir"\ntrains = 1e-3\ndiverges = 1.0',
            "",
            "unknown setting schedule.peak_ir; did you mean schedule.peak_lr?",
        ),
        ("[budget]\nhours = 0", "", "budget.hours is 0"),
        ("[texts]\nn_texts = 0", "", "texts.n_texts is 0; the least is 1"),
        ("[texts]\ntop_p = 0", "", "texts.top_p is 0.0; choose a number above 0"),
        ("[texts]\ntemperatures = [-1]", "", "texts.temperatures is [-1"),
        ("[texts]\ntemperatures = [1, 1.0]", "", "name none of them twice"),
    ],
)
def test_what_cannot_be_a_study_is_refused(tmp_path: Path, text: str, top: str, message: str):
    path = small_study.write(tmp_path, text, top=top)
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        load_study(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_wrong_setting_for_all_runs_is_refused_with_its_line(tmp_path: Path):
    path = small_study.write(tmp_path, set_also='"model.n_head" = 2')
    line = path.read_text().splitlines().index('"model.n_head" = 2') + 1
    message = f"{path}, line {line}: unknown setting model.n_head; did you mean model.n_heads?"
    with pytest.raises(ValueError, match="unknown setting") as raised:
        load_study(path)
    assert message in str(raised.value)


def test_the_command_line_cannot_change_what_the_variants_differ_in(tmp_path: Path):
    path = small_study.write(tmp_path, norms)
    with pytest.raises(ValueError, match="--set model.norm is for all runs, but .* varies it"):
        load_study(path, ["model.norm=layernorm"])


@pytest.mark.parametrize("recipe", recipes, ids=lambda recipe: recipe.stem)
def test_every_study_recipe_loads_and_says_what_it_asks(recipe: Path):
    study = load_study(recipe, ["data.source=stories"])
    assert study.config.question.endswith("?")
    assert len(study.variants) > 1 and len(study.seeds) >= 3
    header = recipe.read_text().split("\n\n")[0]
    for word in ("# Trains:", "# On:", "# Takes:"):
        assert word in header


def test_silu_and_swiglu_have_equally_many_parameters():
    from modelwright.accounting.parameters import count_parameters

    study = load_study(next(path for path in recipes if path.stem == "swiglu"))
    configs = [study.run_config(variant, 1).model for variant in study.variants[:2]]
    assert {config.mlp for config in configs} == {"swiglu", "silu"}
    assert len({count_parameters(config).total for config in configs}) == 1
