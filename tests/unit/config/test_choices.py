"""Settings that are one of several kinds: a number of either sort, a number or a word."""

from pathlib import Path
from typing import Literal

import pytest

from modelwright.config.loading import load_settings, to_toml
from modelwright.config.schema import describe_kind, settings


@settings
class Section:
    warmup: int | float = 0.1
    """Steps if whole, else a share of all steps."""
    size: int | Literal["auto"] = "auto"
    """How many at once."""
    compiled: bool | Literal["auto"] = "auto"
    """Whether to."""
    precision: Literal["auto", "fp32", "BF16"] = "auto"
    """Of the products."""
    window: int | None = None
    """How far."""
    word: Literal["true", "8"] = "8"
    """Words that look like something else."""
    note: str = ""
    """Any text."""


@settings
class Run:
    x: Section = Section()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("warmup = 100", 100),
        ("warmup = 0.05", 0.05),
        ("warmup = 1", 1),
        ("warmup = 1.0", 1.0),
        ("warmup = 1e-5", 1e-5),
        ("size = 8", 8),
        ('size = "auto"', "auto"),
        ("compiled = true", True),
        ("compiled = false", False),
        ('compiled = "auto"', "auto"),
        ("window = 3", 3),
        ('word = "true"', "true"),
        ('note = "8"', "8"),
    ],
)
def test_a_value_keeps_its_kind_from_the_file_from_set_and_when_written(
    tmp_path: Path, written: str, value: int | float | str
):
    name, _, raw = written.partition(" = ")

    def same(config: Run) -> bool:
        found = getattr(config.x, name)
        return found == value and type(found) is type(value)

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[x]\n{written}\n")
    config = load_settings(Run, recipe).config
    assert same(config)
    for text in (raw, raw.strip('"')):  # --set takes a word with and without its quotes
        assert same(load_settings(Run, None, [f"x.{name}={text}"]).config)
    recipe.write_text(to_toml(config))
    assert same(load_settings(Run, recipe).config)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('size = "all"', "x.size is \"all\", but it is a whole number or 'auto'"),
        ("size = 2.5", "x.size is 2.5, but it is a whole number or 'auto'"),
        ("size = true", "x.size is true, but it is a whole number or 'auto'"),
        (
            'size = "Auto"',
            "x.size is \"Auto\", but it is a whole number or 'auto'; did you mean 'auto'?",
        ),
        ("compiled = 1", "x.compiled is 1, but it is true, false or 'auto'"),
        ('compiled = "yes"', "x.compiled is \"yes\", but it is true, false or 'auto'"),
        ("warmup = true", "x.warmup is true, but it is a number"),
        ('window = "x"', 'x.window is "x", but it is a whole number'),
        (
            'precision = "bf61"',
            "x.precision is \"bf61\", but it is one of 'auto', 'fp32', 'BF16'; "
            "did you mean 'BF16'?",
        ),
    ],
)
def test_a_value_of_no_kind_is_told_once_with_what_would_work(
    tmp_path: Path, written: str, message: str
):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[x]\n{written}\n")
    with pytest.raises(ValueError) as raised:
        load_settings(Run, recipe)
    assert str(raised.value) == f"{recipe}, line 2: {message}"
    override = "x." + written.replace(" ", "").replace('"', "")
    with pytest.raises(ValueError) as raised:
        load_settings(Run, None, [override])
    assert str(raised.value) == f"--set {override}: {message}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (bool, "true or false"),
        (Literal["auto"], "'auto'"),
        (Literal["rope", "none"], "one of 'rope', 'none'"),
        (int | Literal["auto", "max"], "a whole number, 'auto' or 'max'"),
        (int | float | None, "a number"),
        (str | tuple[Section, ...], "text or a list of sections"),
        (tuple[int, ...], "a list, each item a whole number"),
    ],
)
def test_a_kind_is_described_in_words(kind: object, words: str):
    assert describe_kind(kind) == words
