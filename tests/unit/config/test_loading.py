import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from modelwright.config.loading import Change, key_lines, load_settings, to_toml
from modelwright.config.schema import SettingsError, check, json_schema, leaves
from modelwright.training.config import RunConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_later_places_win(tmp_path: Path):
    recipe = write(tmp_path, "seed = 5\n[schedule]\npeak_lr = 0.5\nfloor = 0.5\n")
    config = load_settings(RunConfig, recipe, ["schedule.peak_lr=0.25"]).config
    assert config.schedule.peak_lr == 0.25  # the override
    assert config.schedule.floor == 0.5  # the file
    assert config.seed == 5
    assert config.training.n_steps == RunConfig().training.n_steps  # the default


def test_the_origin_of_each_value_is_kept(tmp_path: Path):
    recipe = write(tmp_path, "seed = 5\n\n[model]\n# wide\nd_model = 128\n")
    loaded = load_settings(RunConfig, recipe, ["model.n_layers=2"])
    shown = to_toml(loaded.config, loaded.origins)
    assert f"d_model = 128 # {recipe}, line 5" in shown
    assert "n_layers = 2 # --set model.n_layers=2" in shown
    assert "n_heads = 4 # default" in shown


def test_a_finished_config_reads_back_as_the_same_config(tmp_path: Path):
    changes = [
        "seed=9",
        'samples.prompts=["a \\"b\\"", ""]',
        "samples.sampling.temperature=1",
        "model.vocab_size=5000",
        "model.bias=true",
    ]
    config = load_settings(RunConfig, None, changes).config
    assert load_settings(RunConfig, write(tmp_path, to_toml(config))).config == config


@pytest.mark.parametrize("path", [".".join(path) for path, _ in leaves(RunConfig())])
def test_every_setting_has_a_description_in_the_schema(path: str):
    node = json_schema(RunConfig)
    definitions = node["$defs"]
    *sections, name = path.split(".")
    for section in sections:
        node = definitions[node["properties"][section]["$ref"].rpartition("/")[2]]
    assert node["properties"][name]["description"]


def test_the_schema_is_json_and_forbids_unknown_keys():
    schema = json.loads(json.dumps(json_schema(RunConfig)))
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[schedule]\n\npeak_Ir = 1.0\n",
            "line 3: unknown setting schedule.peak_Ir; did you mean schedule.peak_lr?",
        ),
        ("[model]\npeak_lr = 1.0\n", "did you mean schedule.peak_lr?"),
        (
            "[training]\nn_steps = 'four'\n",
            'line 2: training.n_steps is "four", but it is a whole number',
        ),
        ("[training]\nn_steps = 4.0\n", "training.n_steps is 4.0, but it is a whole number"),
        ("[model]\nbias = 1\n", "model.bias is 1, but it is true or false"),
        ("[model]\nn_kv_heads = 'x'\n", 'model.n_kv_heads is "x", but it is a whole number'),
        ("[training]\nprecision = 'fp8'\n", "but it is one of 'auto', 'fp32', "),
        (
            "[samples]\nprompts = 'one'\n",
            'samples.prompts is "one", but it is a list, each item text',
        ),
        ("model = 3\n", "model is 3, but it is a section of settings"),
        ("[model]\nd_model = 65\n", "line 1: model.d_model is 65, which does not split"),
        ("[schedule]\nfloor = 2\n", "schedule.floor is 2"),
        ("seed = \n", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_line_and_remedy(
    tmp_path: Path, text: str, message: str
):
    recipe = write(tmp_path, text)
    with pytest.raises(ValueError) as raised:
        load_settings(RunConfig, recipe)
    assert message in str(raised.value)
    assert str(recipe) in str(raised.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.n_step=4",
            "--set training.n_step=4: unknown setting training.n_step; did you mean training.n_steps?",
        ),
        ("training.n_steps", "section.key=value"),
        ("training.n_steps=x", '--set training.n_steps=x: training.n_steps is "x"'),
        ("training=4", "a section of settings"),
    ],
)
def test_a_wrong_override_is_refused(override: str, message: str):
    with pytest.raises(ValueError) as raised:
        load_settings(RunConfig, None, [override])
    assert message in str(raised.value)


def test_every_problem_is_told_at_once(tmp_path: Path):
    recipe = write(tmp_path, "[model]\nlayers = 2\n[training]\nn_steps = 'x'\n")
    with pytest.raises(SettingsError) as raised:
        load_settings(RunConfig, recipe)
    assert len(raised.value.problems) == 2


def test_text_needs_no_quotes_in_an_override():
    config = load_settings(RunConfig, None, ["data.source=my text.txt", "data.folder=007"]).config
    assert config.data.source == "my text.txt"
    assert config.data.folder == "007"


def test_a_missing_recipe_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no recipe"):
        load_settings(RunConfig, tmp_path / "none.toml")
    with pytest.raises(ValueError, match="is a folder"):
        load_settings(RunConfig, tmp_path)


def test_line_numbers_of_dotted_and_quoted_keys():
    text = 'a.b = 1\n# c = 2\n[x.y]  # note\n"z" = 3\n  w=4\n'
    lines = key_lines(text)
    assert lines["a", "b"] == 1
    assert lines["x", "y", "z"] == 4
    assert lines["x", "y", "w"] == 5
    assert ("c",) not in lines


def test_settings_cannot_be_changed_after_they_are_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 3  # type: ignore[misc]


def test_a_whole_number_serves_where_a_number_is_wanted():
    assert check(RunConfig, {"schedule": {"peak_lr": 1}}).schedule.peak_lr == 1


mixture = """
[[data.source]]
path = "a.txt"
weight = 2.0

[[data.source]]
path = "b/*.jsonl"
text_field = "body"
"""


def test_a_list_of_sections_is_read_and_written(tmp_path: Path):
    recipe = tmp_path / "mixture.toml"
    recipe.write_text(mixture)
    config = load_settings(RunConfig, recipe).config
    assert [source.weight for source in config.data.sources] == [2.0, 1.0]
    assert [source.text_field for source in config.data.sources] == [None, "body"]
    recipe.write_text(to_toml(config))
    assert load_settings(RunConfig, recipe).config == config
    assert load_settings(RunConfig, recipe, ["data.source=c.txt"]).config.data.source == "c.txt"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "weight",
            "wieght",
            r"line 2: unknown setting data.source\[0\].wieght; did you mean data.source.weight\?",
        ),
        ("weight = 2.0", 'weight = "2"', "line 2: .*weight is .*, but it is a number"),
        ("weight = 2.0", "weight = 0.0", "data.source.weight is 0.0 for a.txt; choose a number"),
        ('path = "a.txt"', "", "line 2: .*path is missing; it is text"),
    ],
)
def test_a_mistake_in_a_list_of_sections_is_told_with_its_place(
    tmp_path: Path, before: str, after: str, message: str
):
    recipe = tmp_path / "mixture.toml"
    recipe.write_text(mixture.replace(before, after))
    with pytest.raises(ValueError, match=message):
        load_settings(RunConfig, recipe)


def test_a_list_of_sections_may_be_set_from_the_command_line():
    from modelwright.training.config import RunConfig

    override = 'data.source=[{path="a.txt", weight=2.0}, {path="b.txt"}]'
    sources = load_settings(RunConfig, None, [override]).config.data.sources
    assert [(source.path, source.weight) for source in sources] == [("a.txt", 2.0), ("b.txt", 1.0)]


def test_changes_win_over_the_file_and_lose_to_the_command_line(tmp_path: Path):
    recipe = write(tmp_path, "[training]\nn_steps = 4\nbatch_tokens = 512\n")
    changes = [
        Change(("training", "n_steps"), 5, "a study"),
        Change(("training", "batch_tokens"), 1024, "a study"),
        Change(("training", "batch_tokens"), 2048, "a variant"),
    ]
    loaded = load_settings(RunConfig, recipe, ["training.n_steps=6"], changes=changes)
    assert loaded.config.training.n_steps == 6
    assert loaded.config.training.batch_tokens == 2048
    assert loaded.origins["training", "batch_tokens"] == "a variant"
    assert loaded.origins["training", "n_steps"] == "--set training.n_steps=6"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("model", "n_head"),
            2,
            "a study: unknown setting model.n_head; did you mean model.n_heads",
        ),
        (("model", "n_heads"), "x", 'a study: model.n_heads is "x", but it is a whole number'),
    ],
)
def test_a_wrong_change_is_refused_with_its_origin(path: tuple[str, ...], value: Any, message: str):
    with pytest.raises(ValueError) as raised:
        load_settings(RunConfig, changes=[Change(path, value, "a study")])
    assert message in str(raised.value)
