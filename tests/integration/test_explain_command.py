"""`modelwright explain` as a person meets it."""

import json

from command import Done, run


def explain(*arguments: str) -> Done:
    return run("explain", *arguments)


def test_a_figure_is_explained():
    done = explain("1.14")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "1.14  FLOPs of one block, the sum of the six above\n"
        "      in a write-up of CS336 assignment 1\n\n"
        "said     90,596,486,400\n"
        "exact    90,596,966,400\n"
        "verdict  wrong\n"
        "why      Two digits slipped: its own six terms come to 480,000 more.\n"
    )


def test_without_an_id_all_figures_are_listed_one_a_line():
    done = explain()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 112
    claimed = "parameters of GPT-2 small's two embeddings: 38.4 million"
    assert lines[0] == f"0.1   wrong                    {claimed}"


def test_figures_as_json():
    one, every = explain("4.15", "--json"), explain("--json")
    assert one.returncode == every.returncode == 0
    assert json.loads(one.stdout) == json.loads(every.stdout)[-1]
    assert json.loads(one.stdout)["document"] == "lecture slides on large language models"


def test_an_unknown_figure_is_an_error_with_the_nearest():
    done = explain("1.99")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no figure is called '1.99'; did you mean '1.9'")
