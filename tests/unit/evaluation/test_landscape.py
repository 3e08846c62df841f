import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small
from modelwright.checkpoint.bundle import distinct_weights
from modelwright.data.loader import Chunks
from modelwright.evaluation.directions import random_direction
from modelwright.evaluation.landscape import survey
from modelwright.evaluation.landscape_file import path_of, read_landscape
from modelwright.evaluation.landscape_map import Landscape, LandscapeConfig
from modelwright.evaluation.perplexity import BrokenOff, validation_loss
from modelwright.model.transformer import Transformer
from modelwright.runtime.progress import Progress

plane = LandscapeConfig(points=3, span=0.5, n_tokens=33)
curve = dataclasses.replace(plane, kind="curve", points=5)
path = dataclasses.replace(plane, kind="path", points=5, span=1.0)


def chunks(seed: int = 0) -> Chunks:
    return Chunks(small.tokens(80, seed=seed), 11)


def bits(model: Transformer) -> dict[str, bytes]:
    return {name: w.numpy().tobytes() for name, w in distinct_weights(model).items()}


def measured(folder: Path, config: LandscapeConfig = plane, **named: Any) -> Landscape:
    return survey(small.model(), chunks(), config, folder, **named)


def stopping_after(n_points: int) -> dict[str, Any]:
    """Arguments with which a survey is asked to stop when it has so many points."""
    done = [0.0]

    def listen(progress: Progress) -> None:
        done[0] = progress.done

    return {"on_progress": listen, "is_stopped": lambda: done[0] >= n_points}


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("with_vectors", [False, True])
def test_each_loss_is_that_of_the_weights_moved_by_hand(tmp_path: Path, with_vectors: bool):
    config = dataclasses.replace(plane, with_vectors=with_vectors, seed=7)
    found = measured(tmp_path, config)
    directions = [
        random_direction(
            distinct_weights(small.model()), seed=7, axis=axis, with_vectors=with_vectors
        )
        for axis in range(2)
    ]
    for point in found.points:
        model = small.model()
        for name, weight in distinct_weights(model).items():
            for multiple, direction in zip(point.at, directions, strict=True):
                weight += multiple * direction[name]
        by_hand = validation_loss(model, chunks(), max_tokens=33, batch_size=2)
        assert by_hand.n_tokens == 33
        assert point.loss == pytest.approx(by_hand.loss, rel=1e-5)
    assert found.is_complete
    assert len({point.loss for point in found.points}) == 9


def test_the_middle_is_the_loss_of_the_model_itself(tmp_path: Path):
    trained = measured(tmp_path).trained
    itself = validation_loss(small.model(), chunks(), max_tokens=33, batch_size=100)
    assert trained is not None
    assert trained.loss == itself.loss


def test_a_path_has_the_losses_of_both_models_at_its_ends(tmp_path: Path):
    other = small.model(seed=3)
    found = measured(tmp_path, path, end=distinct_weights(other))
    for place, model in ((0.0, small.model()), (1.0, other)):
        point = found.at(place)
        assert point is not None
        expected = validation_loss(model, chunks(), max_tokens=33, batch_size=100)
        assert point.loss == expected.loss


@pytest.mark.parametrize("is_training", [False, True])
def test_the_model_is_afterwards_as_it_was(tmp_path: Path, is_training: bool):
    model = small.model().train(is_training)
    before = bits(model)
    survey(model, chunks(), curve, tmp_path)
    assert bits(model) == before
    assert model.training == is_training
    with pytest.raises(BrokenOff):
        survey(model, chunks(), plane, tmp_path, **stopping_after(4))
    assert bits(model) == before


def test_a_fault_in_the_middle_leaves_the_weights_as_they_were(tmp_path: Path):
    model, before = small.model(), bits(small.model())

    def fail(progress: Progress) -> None:
        if progress.done == 3:
            raise RuntimeError("the listener has left")

    with pytest.raises(RuntimeError, match="has left"):
        survey(model, chunks(), plane, tmp_path, on_progress=fail)
    assert bits(model) == before
    assert len(read_landscape(path_of(tmp_path, "plane")).points) == 3


def test_points_come_from_the_middle_outwards_and_are_on_disk_at_once(tmp_path: Path):
    on_disk: list[int] = []

    def listen(progress: Progress) -> None:
        assert progress.total == 9
        on_disk.append(len(read_landscape(path_of(tmp_path, "plane")).points))

    found = measured(tmp_path, on_progress=listen)
    assert on_disk == list(range(10))
    distances = [math.hypot(*point.at) for point in found.points]
    assert distances == sorted(distances)
    assert distances[0] == 0


@pytest.mark.parametrize("n_points", [1, 4, 8])
def test_a_stopped_survey_goes_on_to_the_same_file(tmp_path: Path, n_points: int):
    measured(tmp_path / "whole")
    with pytest.raises(BrokenOff):
        measured(tmp_path / "parts", **stopping_after(n_points))
    file = path_of(tmp_path / "parts", "plane")
    assert len(file.read_text().splitlines()) == n_points + 1
    measured(tmp_path / "parts")
    assert file.read_bytes() == path_of(tmp_path / "whole", "plane").read_bytes()


def test_half_a_line_is_dropped_and_measured_again(tmp_path: Path):
    measured(tmp_path)
    file = path_of(tmp_path, "plane")
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert len(read_landscape(file).points) == 8
    measured(tmp_path)
    assert file.read_bytes() == whole


def test_what_is_there_is_not_measured_again(tmp_path: Path):
    measured(tmp_path)
    told: list[Progress] = []
    again = measured(tmp_path, on_progress=told.append)
    assert again.is_complete
    assert [progress.done for progress in told] == [9]


def test_kinds_share_a_folder(tmp_path: Path):
    first = measured(tmp_path)
    assert measured(tmp_path, curve).config.kind == "curve"
    assert read_landscape(path_of(tmp_path, "plane")).points == first.points


def test_losses_that_are_not_finite_are_on_record(tmp_path: Path):
    model = small.model(tie_embeddings=False)
    end = {name: w.clone() for name, w in distinct_weights(model).items()}
    end["norm.weight"] *= 1e20
    end["unembedding.weight"] *= 1e30
    found = survey(model, chunks(), path, tmp_path, end=end)
    assert found.is_complete
    assert [point.at for point in found.points if point.is_finite] == [(0.0,)]
    read = read_landscape(path_of(tmp_path, "path"))
    assert [(p.at, str(p.loss)) for p in read.points] == [(p.at, str(p.loss)) for p in found.points]
    for line in path_of(tmp_path, "path").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 5}, "points is 5 here and 3 there"),
        ({"span": 1.0}, "span is 1.0 here and 0.5 there"),
        ({"seed": 2}, "seed is 2 here and 1 there"),
        ({"n_tokens": 22}, "n_tokens is 22 here and 33 there; text is "),
        ({"with_vectors": True}, "with_vectors is True here and False there"),
    ],
)
def test_a_file_of_other_settings_is_refused(tmp_path: Path, change: Any, message: str):
    measured(tmp_path)
    before = path_of(tmp_path, "plane").read_bytes()
    said = refused(lambda: measured(tmp_path, dataclasses.replace(plane, **change)))
    assert f"({message}" in said
    assert "choose another folder with --out" in said
    assert path_of(tmp_path, "plane").read_bytes() == before


def test_a_file_of_other_weights_text_or_precision_is_refused(tmp_path: Path):
    measured(tmp_path)
    for model, cut, name in (
        (small.model(seed=5), chunks(), "weights"),
        (small.model(), chunks(1), "text"),
        (small.model(dtype=torch.bfloat16), chunks(), "precision"),
    ):
        said = refused(lambda m=model, c=cut: survey(m, c, plane, tmp_path))
        assert f"with other settings ({name} is " in said
        assert said.count(" here and ") == 1


def test_a_text_beyond_the_tokens_that_are_read_does_not_matter(tmp_path: Path):
    measured(tmp_path)
    longer = chunks()
    tokens = longer.tokens.read(0, 80).astype(np.uint16)
    tokens[50:] = 1
    survey(small.model(), Chunks(small.sequence(tokens), 11), plane, tmp_path)


@pytest.mark.parametrize("damage", ["", "{}\n", '{"format": "x"}\n', "[1, 2]\n", "null\n"])
def test_a_file_without_settings_is_refused(tmp_path: Path, damage: str):
    path_of(tmp_path, "plane").write_text(damage)
    assert "does not begin with the settings" in refused(lambda: measured(tmp_path))


def test_altered_settings_are_noticed(tmp_path: Path):
    measured(tmp_path)
    file = path_of(tmp_path, "plane")
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 2'))
    assert "they were altered" in refused(lambda: read_landscape(file))


@pytest.mark.parametrize(
    "line", ["", "7", "{}", '{"at": [0.1, 0.1], "loss": 1.0}', '{"at": [0.0], "loss": 1.0}']
)
def test_a_line_that_is_no_point_is_named(tmp_path: Path, line: str):
    measured(tmp_path)
    file = path_of(tmp_path, "plane")
    lines = file.read_text().splitlines()
    lines[4] = line
    file.write_text("\n".join(lines) + "\n")
    assert "line 5, is no point of this landscape" in refused(lambda: read_landscape(file))


def test_a_path_needs_weights_of_the_same_shape(tmp_path: Path):
    assert "end was left out" in refused(lambda: measured(tmp_path, path))
    same = distinct_weights(small.model())
    assert "end was given" in refused(lambda: measured(tmp_path, plane, end=same))
    wider = distinct_weights(small.model(d_ff=48))
    said = refused(lambda: measured(tmp_path, path, end=wider))
    assert "is of another shape: it differs in blocks.0.mlp." in said
    assert not list(tmp_path.iterdir())
