"""`attention_speed.py`, with times that are made up: the kernels themselves need a GPU."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from modelwright.model import attention_speed as module
from modelwright.model.attention_speed import AttentionShape, fastest_attention
from modelwright.model.config import AttentionKind

cuda = torch.device("cuda")
shape = AttentionShape(
    n_sequences=8, n_heads=12, n_kv_heads=12, n_tokens=1024, d_head=64, dtype=torch.bfloat16
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA Test")
    return tmp_path


class Clock:
    """Times that are made up, and what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[str] = []
        monkeypatch.setattr(module, "attention_seconds", self)

    def __call__(self, kind: AttentionKind, *_: object) -> float:
        self.asked.append(kind)
        return self.seconds[kind]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"flash": 1.0, "cudnn": 0.7, "efficient": 2.0}, "cudnn"),
        ({"flash": 1.0, "cudnn": 0.99, "efficient": 2.0}, "flash"),  # not worth other roundings
        ({"flash": 1.0, "cudnn": 1.2, "efficient": 0.5}, "efficient"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("home")
def test_the_one_that_is_clearly_fastest_is_taken(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], expected: str
):
    Clock(monkeypatch, **seconds)
    assert fastest_attention(("flash", "cudnn", "efficient"), shape, cuda) == expected


def test_a_shape_is_measured_once(home: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch, flash=1.0, cudnn=0.5)
    for _ in range(2):
        assert fastest_attention(("flash", "cudnn"), shape, cuda) == "cudnn"
    assert clock.asked == ["flash", "cudnn"]
    clock.seconds["cudnn"] = 3.0  # a busy moment does not change what a run goes on with
    assert fastest_attention(("flash", "cudnn"), shape, cuda) == "cudnn"
    (name,) = json.loads((home / "attention.json").read_text())
    expected = f"NVIDIA Test, torch {torch.__version__}, bfloat16, 8 x 12/12 x 1024 x 64"
    assert name == expected


def test_other_shapes_are_other_questions(home: Path, monkeypatch: pytest.MonkeyPatch):

    clock = Clock(monkeypatch, flash=1.0, cudnn=0.5)
    others = ({"n_tokens": 2048}, {"d_head": 128}, {"n_kv_heads": 4}, {"n_sequences": 1})
    others += ({"dtype": torch.float16}, {"masked": True}, {"dropout": 0.1}, {"n_heads": 24})
    for change in ({}, *others):
        fastest_attention(("flash", "cudnn"), dataclasses.replace(shape, **change), cuda)
    assert len(clock.asked) == 2 * 9
    assert len(json.loads((home / "attention.json").read_text())) == 9


@pytest.mark.usefixtures("home")
def test_where_only_one_works_nothing_is_measured(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    assert fastest_attention(("efficient",), shape, cuda) == "efficient"
    assert clock.asked == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"other": {"flash": 1}}'])
def test_a_file_that_says_nothing_is_written_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str
):
    (home / "attention.json").write_text(text)
    Clock(monkeypatch, flash=1.0, cudnn=0.5)
    assert fastest_attention(("flash", "cudnn"), shape, cuda) == "cudnn"
    assert len(json.loads((home / "attention.json").read_text())) == 1 + ("other" in text)


def test_a_kernel_that_was_not_measured_makes_a_new_measurement(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = Clock(monkeypatch, flash=1.0, cudnn=0.5, efficient=2.0)
    fastest_attention(("flash", "efficient"), shape, cuda)
    assert fastest_attention(("flash", "cudnn"), shape, cuda) == "cudnn"
    assert clock.asked == ["flash", "efficient", "flash", "cudnn"]
