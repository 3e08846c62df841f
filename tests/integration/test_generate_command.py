"""`modelwright generate` with every option, on a checkpoint that takes milliseconds."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import saving
from modelwright.cli.app import app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    saving.save(folder, context=48)
    return folder


def call(run: Path, *arguments: object, given: str | None = None) -> Result:
    words = ["generate", str(run), "--seed", "3", *map(str, arguments)]
    return CliRunner().invoke(app, words, input=given)


def text_of(run: Path, *arguments: object, given: str | None = None) -> str:
    result = call(run, *arguments, given=given)
    assert result.exit_code == 0, result.exception
    return result.stdout


def refused(run: Path, *arguments: object) -> str:
    result = call(run, *arguments)
    assert isinstance(result.exception, ValueError), result.exception
    return str(result.exception)


def test_a_text_is_the_same_streamed_and_at_once(run: Path):
    streamed = text_of(run, "-p", "Once", "--max-tokens", 20)
    assert streamed == text_of(run, "-p", "Once", "--max-tokens", 20, "--no-stream")
    assert streamed.startswith("Once") and streamed.endswith("\n")
    first, second = text_of(run, "-p", "Once", "--max-tokens", 20, "-n", 2).split("\n\n---\n\n")
    assert first + "\n" == streamed
    assert second != streamed


def test_speed_seed_and_ending_are_told_on_standard_error(run: Path):
    result = call(run, "-p", "Once", "--max-tokens", 5, "--temperature", 0)
    assert re.fullmatch(
        r"\[5 tokens, \d+ tokens/s, seed 3\] first token after \d+ ms; ended by max_tokens\n",
        result.stderr,
    )


def test_a_prompt_comes_from_a_file_or_from_standard_input(run: Path, tmp_path: Path):
    file = tmp_path / "prompt.txt"
    file.write_text("Ünd dann", encoding="utf-8")
    expected = text_of(run, "--prompt", "Ünd dann", "--max-tokens", 5)
    assert text_of(run, "--prompt-file", file, "--max-tokens", 5) == expected
    for option in ("--prompt", "--prompt-file"):
        assert text_of(run, option, "-", "--max-tokens", 5, given="Ünd dann") == expected
    assert "give one of them" in refused(run, "-p", "a", "--prompt-file", file)


def test_each_setting_of_the_draws_changes_the_text(run: Path):
    texts = [
        text_of(run, "-p", "Once", "--max-tokens", 30, "--temperature", 2, *change)
        for change in (
            [],
            ["--temperature", 0.1],
            ["--top-k", 2],
            ["--top-p", 0.1],
            ["--min-p", 0.9],
            ["--repetition-penalty", 5],
            ["--averaged"],
        )
    ]
    assert all(text != texts[0] for text in texts[1:])


def test_stop_texts_end_a_text_and_are_left_out(run: Path):
    whole = text_of(run, "-p", "Once", "--max-tokens", 20)
    stop = whole[9:11]
    result = call(run, "-p", "Once", "--max-tokens", 20, "--stop", "@@", "--stop", stop)
    assert result.stdout == whole[: whole.index(stop, 4)] + "\n"
    assert "ended by stop" in result.stderr


def test_chances_are_shown_a_line_for_each_token(run: Path):
    lines = call(run, "--max-tokens", 4, "--logprobs", 2, "--temperature", 0).stderr.splitlines()
    assert len(lines) == 5
    for line in lines[:4]:
        chosen, likeliest = line.split("|")
        # Greedy: the chosen token is the first of the likeliest.
        assert likeliest.split()[-1].startswith("-")
        assert chosen.split()[-1] in likeliest


def test_beams_find_texts_and_show_the_best(run: Path):
    best = text_of(run, "-p", "Once", "--beams", 4, "--max-tokens", 8)
    several = text_of(run, "-p", "Once", "--beams", 4, "--max-tokens", 8, "--samples", 3)
    assert several.startswith(best.rstrip("\n"))
    assert several.count("---") == 2


def test_each_line_is_continued_until_the_input_ends(run: Path):
    written = text_of(run, "--interactive", "--max-tokens", 6, given="Once\nThe dog\n")
    single = text_of(run, "-p", "Once", "--max-tokens", 6)
    assert written.startswith(single)
    assert written[len(single) :].startswith("The dog")


def test_overflow_is_by_the_rule_that_is_asked_for(run: Path):
    assert len(text_of(run, "--max-tokens", 60, "--temperature", 0)) > 40
    message = refused(run, "--max-tokens", 60, "--overflow", "error")
    assert "together 61, but model.context is 48" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", 0], "--samples is 0"),
        (["--beams", -1], "--beams is -1"),
        (["--stream", "--samples", 2], "--stream shows a single text"),
        (["--interactive", "-p", "x"], "leave out --prompt"),
        (["--beams", 2, "--stop", "x"], "--beams goes without --stop"),
        (["--beams", 2, "--samples", 3], "choose at most 2 samples"),
        (["--min-p", 2], "min_p is 2"),
        (["--max-tokens", 0], "max_tokens is 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Path, arguments: list[object], message: str
):
    assert message in refused(run, *arguments)


def test_texts_at_several_temperatures_are_measured(run: Path):
    shown = text_of(run, "-p", "Once", "--max-tokens", 30, "-n", 16, "--measure", "0,1.5")
    head, cold, wild, note = shown.splitlines()[:4]
    assert head.split() == [
        *["temperature", "tokens", "distinct-1", "distinct-2", "distinct-3"],
        *["self-bleu", "repetition"],
    ]
    assert cold.split()[0] == "0" and wild.split()[0] == "1.5"
    assert note.startswith("16 texts each, in 2 groups")
    assert "\nat 0: " in shown and "\nat 1.5: " in shown


def test_colder_texts_are_more_alike(run: Path):
    options = ["-p", "Once", "--max-tokens", 30, "-n", 8, "--json"]
    rows = json.loads(text_of(run, *options, "--measure", "0,1.5"))
    cold, wild = (row["measures"] for row in rows)
    assert cold["self_bleu"]["mean"] == pytest.approx(1)  # the same text each time
    assert wild["self_bleu"]["mean"] < 0.9
    assert wild["distinct_2"]["mean"] > cold["distinct_2"]["mean"]
    assert len(set(rows[0]["texts"])) == 1 and len(set(rows[1]["texts"])) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "0.5,x", "-n", 8], "--measure is '0.5,x', but it is a list of temperatures"),
        (["--measure", "0.5"], "--samples is 1, but --measure compares texts"),
        (["--measure", "0.5", "-n", 8, "--logprobs", 1], "--measure goes without --beams"),
        (["--json"], "--json is for --measure"),
        (["--measure", "-1", "-n", 8], "temperature is -1.0"),
    ],
)
def test_what_cannot_be_measured_is_refused(run: Path, arguments: list[object], message: str):
    assert message in refused(run, "-p", "Once", *arguments)
