import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from modelwright.cli.config import config as config_command
from modelwright.config.loading import load_settings, to_toml, with_preset
from modelwright.config.schema import SettingsError, json_schema, settings


@settings
class Roof:
    slope: float = 0.5
    """Rise over run."""
    tiles: int | None = None
    """How many."""


@settings
class Window:
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"dormer": {"panes": 6}}
    width: float
    """In metres."""
    panes: int = 1
    """Sheets of glass."""


@settings
class House:
    """Something with presets, a section inside, and a setting without a default."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = types.MappingProxyType(
        {
            "cabin": {"rooms": 1, "material": "wood"},
            "barn": {
                "rooms": 2,
                "material": "wood",
                "roof": types.MappingProxyType({"slope": 1.5, "tiles": 900}),
            },
            "7": {"rooms": 7},
        }
    )
    rooms: int
    """Rooms with a door."""
    material: str = "brick"
    """What the walls are of."""
    roof: Roof = Roof()
    windows: tuple[Window, ...] = ()
    """What lets the light in."""

    def __post_init__(self) -> None:
        if self.rooms < 1:
            raise ValueError(f"house.rooms is {self.rooms}; the least is 1")


@settings
class Garden:
    trees: int = 3
    """Fruit trees."""


@settings
class Estate:
    house: House = House(rooms=3)
    garden: Garden = Garden()

    def __post_init__(self) -> None:
        if self.house.rooms < self.garden.trees - 5:
            raise ValueError("house.rooms is less than garden.trees allows")


def load(folder: Path, text: str, *overrides: str) -> Estate:
    return load_settings(Estate, write(folder, text), overrides).config


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_preset_wins_over_defaults_and_loses_to_the_file_and_to_set(tmp_path: Path):
    text = '[house]\nrooms = 4\npreset = "barn"\n'
    house = load(tmp_path, text, "house.roof.tiles=5").house
    assert house.material == "wood"  # the preset, over the default
    assert house.rooms == 4  # the file, though written before the preset
    assert house.roof == Roof(slope=1.5, tiles=5)  # the preset, and over it one --set


@pytest.mark.parametrize("order", [1, -1])
def test_a_preset_from_set_replaces_the_files_and_keeps_its_other_keys(tmp_path: Path, order: int):
    text = '[house]\npreset = "barn"\nmaterial = "straw"\n'
    overrides = ["house.preset=cabin", "house.roof.slope=2.0"][::order]
    house = load(tmp_path, text, *overrides).house
    assert house == House(rooms=1, material="straw", roof=Roof(slope=2.0))


def test_a_section_in_the_file_lies_over_the_presets_setting_by_setting(tmp_path: Path):
    house = load(tmp_path, '[house]\npreset = "barn"\n[house.roof]\ntiles = 3\n').house
    assert house.roof == Roof(slope=1.5, tiles=3)


def test_a_preset_gives_a_setting_that_has_no_default():
    assert load_settings(House, None, ["preset=cabin"]).config == House(rooms=1, material="wood")
    with pytest.raises(ValueError, match="rooms is missing"):
        load_settings(House)


def test_a_preset_may_look_like_a_number():
    assert load_settings(Estate, None, ["house.preset=7"]).config.house.rooms == 7


def test_a_section_in_a_list_may_take_a_preset(tmp_path: Path):
    text = '[[house.windows]]\nwidth = 1.0\n[[house.windows]]\nwidth = 2.0\npreset = "dormer"\n'
    config = load(tmp_path, "[house]\nrooms = 1\n" + text)
    assert config.house.windows == (Window(width=1.0), Window(width=2.0, panes=6))


def test_the_finished_config_holds_every_value_and_no_preset(tmp_path: Path):
    config = load(tmp_path, "", "house.preset=barn")
    assert "preset" not in to_toml(config)
    assert load(tmp_path, to_toml(config)) == config
    assert next(field.name for field in dataclasses.fields(House)) == "rooms"


def test_the_config_command_shows_what_came_from_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("modelwright.training.config.RunConfig", Estate)
    recipe = write(tmp_path, '[house]\npreset = "barn"\nrooms = 4\n')
    config_command(recipe, ["house.roof.tiles=5"], False)
    shown = capsys.readouterr().out.splitlines()
    assert f"rooms = 4 # {recipe}, line 3" in shown
    assert 'material = "wood" # preset barn' in shown
    assert "slope = 1.5 # preset barn" in shown
    assert "tiles = 5 # --set house.roof.tiles=5" in shown
    assert "trees = 3 # default" in shown


def test_a_preset_is_no_setting_with_an_origin(tmp_path: Path):
    loaded = load_settings(Estate, write(tmp_path, '[house]\npreset = "cabin"\n'))
    assert loaded.origins["house", "rooms"] == "preset cabin"
    assert ("house", "preset") not in loaded.origins


def test_a_whole_section_from_set_leaves_no_origins_of_the_file(tmp_path: Path):
    override = 'house={preset = "cabin", rooms = 8}'
    text = "[house]\nrooms = 4\nmaterial = 'straw'\n[house.roof]\nslope = 2.0\n"
    recipe = write(tmp_path, text)
    loaded = load_settings(Estate, recipe, [override])
    assert (loaded.config.house.rooms, loaded.config.house.material) == (8, "wood")
    assert loaded.origins["house", "rooms"] == f"--set {override}"
    assert loaded.origins["house", "material"] == "preset cabin"
    assert ("house", "roof", "slope") not in loaded.origins  # the default again


def test_an_unknown_preset_is_told_with_line_nearest_name_and_all_names(tmp_path: Path):
    recipe = write(tmp_path, '[garden]\n[house]\npreset = "Bran"\n')
    with pytest.raises(ValueError) as raised:
        load_settings(Estate, recipe)
    assert str(raised.value) == (
        f"{recipe}, line 3: house.preset is \"Bran\", but it is one of 'cabin', 'barn', '7'; "
        "did you mean 'barn'?"
    )
    with pytest.raises(ValueError, match="^--set house.preset=x: house.preset is .*'7'$"):
        load_settings(Estate, None, ["house.preset=x"])


def test_an_unknown_preset_is_refused_where_nothing_else_is_wrong(tmp_path: Path):
    with pytest.raises(ValueError, match='line 2: house.preset is "x"'):
        load(tmp_path, '[house]\npreset = "x"\nrooms = 1\n')


def test_a_preset_that_is_no_text_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"line 2: house.preset is \[1\], but it is one of"):
        load(tmp_path, "[house]\npreset = [1]\n")


def test_an_unknown_preset_hides_what_follows_from_it_and_nothing_else(tmp_path: Path):
    with pytest.raises(SettingsError) as raised:  # rooms is missing only for want of the preset
        load(tmp_path, '[house]\npreset = "x"\n[garden]\ntrees = "many"\n')
    assert [problem.path for problem in raised.value.problems] == [
        ("house", "preset"),
        ("garden", "trees"),
    ]
    with pytest.raises(SettingsError) as raised:  # too many trees, but for which house?
        load(tmp_path, '[house]\nrooms = 1\npreset = "x"\n[garden]\ntrees = 100\n')
    assert [problem.path for problem in raised.value.problems] == [("house", "preset")]


def test_a_section_without_presets_has_no_setting_of_that_name(tmp_path: Path):
    message = "unknown setting garden.preset; did you mean house.preset?"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, '[garden]\npreset = "barn"\n')
    with pytest.raises(ValueError, match=message):
        load_settings(Estate, None, ["garden.preset=barn"])


def test_a_misspelt_preset_key_is_told_from_the_others(tmp_path: Path):
    with pytest.raises(ValueError, match="did you mean house.preset?"):
        load(tmp_path, '[house]\nprest = "barn"\n')


def test_the_presets_are_no_setting(tmp_path: Path):
    message = r"unknown setting house\.presets; did you mean house\.preset\?$"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, "[house]\nrooms = 1\npresets = 3\n")
    with pytest.raises(ValueError, match=message):
        load_settings(Estate, None, ["house.presets=3"])


def test_a_mistake_in_a_preset_is_told_as_the_presets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(House, "presets", {"ruin": {"rooms": "none"}})
    with pytest.raises(ValueError, match='^preset ruin: house.rooms is "none"'):
        load_settings(Estate, None, ["house.preset=ruin"])


def test_the_schema_names_the_presets():
    house = json_schema(Estate)["$defs"]["House"]
    assert house["properties"]["preset"]["enum"] == ["cabin", "barn", "7"]
    assert house["properties"]["preset"]["description"]
    assert "preset" not in json_schema(Estate)["$defs"]["Garden"]["properties"]


@pytest.mark.parametrize(
    ("recipe", "fits"),
    [
        ({"house": {"preset": "barn"}}, True),
        ({"house": {"preset": "barn", "rooms": 3}}, True),
        ({"house": {"rooms": 3}}, True),
        ({"house": {"preset": "bam"}}, False),
        ({"house": {}}, False),  # rooms is missing
        ({"house": {"rooms": 3, "windows": [{"preset": "dormer"}]}}, False),  # width is missing
        ({"house": {"rooms": 3, "windows": [{"preset": "dormer", "width": 1.0}]}}, True),
        ({"garden": {"preset": "barn"}}, False),
    ],
)
def test_the_schema_fits_the_recipes_that_load(recipe: dict[str, Any], fits: bool, tmp_path: Path):
    import tomlkit

    validator = jsonschema.Draft202012Validator(json_schema(Estate))
    assert validator.is_valid(recipe) is fits
    if fits:
        load(tmp_path, tomlkit.dumps(recipe))
    else:
        with pytest.raises(ValueError):
            load(tmp_path, tomlkit.dumps(recipe))


def test_with_preset_gives_the_settings_with_changes():
    assert with_preset(House, "cabin") == House(rooms=1, material="wood")
    changed = with_preset(House, "barn", rooms=5, windows=(Window(width=1.0),), roof={"tiles": 2})
    assert changed == House(
        rooms=5, material="wood", windows=(Window(width=1.0),), roof=Roof(slope=1.5, tiles=2)
    )
    assert with_preset(House, "barn", roof=Roof()).roof == Roof()


@pytest.mark.parametrize(
    ("cls", "preset", "changes", "message"),
    [
        (House, "bran", {}, "preset is \"bran\", but it is one of .*; did you mean 'barn'?"),
        (Garden, "barn", {}, "Garden has no presets"),
        (House, "barn", {"room": 1}, "unknown setting room; did you mean rooms?"),
        (House, "barn", {"rooms": 0}, "house.rooms is 0; the least is 1"),
    ],
)
def test_with_preset_refuses_what_a_recipe_would(
    cls: type, preset: str, changes: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        with_preset(cls, preset, **changes)


def test_a_setting_may_be_called_presets_and_one_called_preset_excludes_presets():
    @settings
    class Radio:
        presets: tuple[float, ...] = (88.1, 90.0)
        """Frequencies in MHz."""

    assert load_settings(Radio, None, ["presets=[99.5]"]).config.presets == (99.5,)
    assert "preset" not in json_schema(Radio)["properties"]

    @settings
    class Both:
        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"a": {}}
        preset: str = "b"

    with pytest.raises(AssertionError, match="Both.preset would hide its presets"):
        load_settings(Both)
