import builtins
import html
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from modelwright.training.tensorboard import EventFile, as_markdown, scalar_tags


def record(step: int, **values) -> dict:
    return {"step": step, "loss": 5.0 - step, **values}


def write(folder: Path, records: list[dict], first_step: int) -> Path:
    file = EventFile(folder, first_step=first_step)
    for each in records:
        file.write(each)
    file.close()
    return file.path


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), purge_orphaned_data=True)
    found.Reload()
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_every_number_of_a_record_is_under_its_tag(tmp_path: Path):
    numbers = {name: float(i) for i, name in enumerate(scalar_tags, start=1)}
    numbers["memory_bytes"] = 3 * 2**30
    write(tmp_path, [{"step": 7, "seconds": 1.0, "data_ids": "ab"} | numbers], 7)
    assert sorted(read(tmp_path).Tags()["scalars"]) == sorted(scalar_tags.values())
    for i, (name, tag) in enumerate(scalar_tags.items(), start=1):
        assert scalars(tmp_path, tag) == [(7, 3.0 if name == "memory_bytes" else float(i))]


def test_a_score_of_a_part_is_no_point_of_the_whole_tasks_curve(tmp_path: Path):
    scores = {"acc": {"value": 30.0, "stderr": 1.0}, "perplexity": {"value": None, "stderr": None}}
    whole = {"copa": {"scores": scores, "partial": None}}
    part = {"copa": {"scores": scores, "partial": "PARTIAL: 12 of 100 items"}}
    write(tmp_path, [record(1, tasks=whole), record(2, tasks=part)], 1)
    assert scalars(tmp_path, "tasks/copa_acc") == [(1, 30.0)]
    assert scalars(tmp_path, "tasks_partial/copa_acc") == [(2, 30.0)]
    assert not any("perplexity" in tag for tag in read(tmp_path).Tags()["scalars"])


def test_curves_of_one_kind_share_a_group(tmp_path: Path):
    whole = record(1, validation_loss=2.0, validation_perplexity=3.0, learning_rate=4.0)
    write(tmp_path, [whole], 1)
    values = {tag: scalars(tmp_path, tag)[0][1] for tag in read(tmp_path).Tags()["scalars"]}
    assert values == {
        "loss/training": 4.0,
        "loss/validation": 2.0,
        "perplexity/validation": 3.0,
        "learning_rate": 4.0,
    }


def test_what_a_record_lacks_is_not_written(tmp_path: Path):
    write(tmp_path, [record(1), record(2, validation_loss=4.5, mfu=None)], 1)
    assert scalars(tmp_path, "loss/training") == [(1, 4.0), (2, 3.0)]
    assert scalars(tmp_path, "loss/validation") == [(2, 4.5)]
    assert "speed/mfu" not in read(tmp_path).Tags()["scalars"]


def test_each_record_can_be_read_while_the_run_goes_on(tmp_path: Path):
    file = EventFile(tmp_path, first_step=1)
    for step in (1, 2):
        file.write(record(step))
        assert len(scalars(tmp_path, "loss/training")) == step
    file.close()


def test_a_resumed_run_takes_the_place_of_the_steps_it_takes_again(tmp_path: Path):
    write(tmp_path, [record(step) for step in range(1, 7)], 1)
    write(tmp_path, [record(step, loss=100.0 + step) for step in (4, 5)], 4)
    assert scalars(tmp_path, "loss/training") == [(1, 4), (2, 3), (3, 2), (4, 104), (5, 105)]


def test_steps_taken_again_are_gone_before_the_first_new_one(tmp_path: Path):
    write(tmp_path, [record(step, validation_loss=1.0) for step in range(1, 7)], 1)
    write(tmp_path, [], 4)
    assert scalars(tmp_path, "loss/validation") == [(1, 1), (2, 1), (3, 1)]


def test_files_made_within_a_second_are_read_in_order(tmp_path: Path):
    paths = [write(tmp_path, [record(step)], step) for step in range(1, 13)]
    assert [path.name for path in paths] == sorted({path.name for path in paths})
    assert [step for step, _ in scalars(tmp_path, "loss/training")] == list(range(1, 13))


def texts(folder: Path, tag: str) -> list[list[str]]:
    found = [event.tensor_proto.string_val for event in read(folder).Tensors(tag)]
    return [[text.decode() for text in step] for step in found]


def test_samples_are_under_the_text_tab(tmp_path: Path):
    write(tmp_path, [record(3, samples=["Once upon a time.", "*The* end"])], 1)
    assert texts(tmp_path, "samples") == [["Once upon a time.", "&#42;The&#42; end"]]
    assert read(tmp_path).PluginTagToContent("text").keys() == {"samples"}


def test_an_event_is_told_with_its_details(tmp_path: Path):
    bare = {"step": 4, "event": "rewound"}
    write(tmp_path, [{"step": 3, "event": "spike", "ratio": 2.5, "loss": math.nan}, bare], 1)
    assert texts(tmp_path, "events") == [["spike: ratio 2.5"], ["rewound"]]
    assert math.isnan(scalars(tmp_path, "loss/training")[0][1])


def test_a_step_that_was_given_up_is_no_part_of_a_curve(tmp_path: Path):
    given_up = record(2, event="spike", action="rewind", from_step=9)
    write(tmp_path, [record(1), given_up, record(2)], 1)
    assert scalars(tmp_path, "loss/training") == [(1, 4.0), (2, 3.0)]
    assert texts(tmp_path, "events") == [["spike: action rewind, from step 9"]]


@pytest.mark.parametrize(
    "text",
    [
        "plain text, with a comma. And more",
        "*a* _b_ `c` ~~d~~ **e** [f](g) ![h](i) <b>j</b> & k | l \\m",
        "# one\n- two\n3. three\n+ four\n\n    five\n> six\n===\n---\n***\n```seven\n~~~",
        "a | b\n--|--\nc | d",
        "&amp; &lt; &#42; &nbsp",
        "\"quoted\" 'so'",
    ],
)
def test_a_sample_is_shown_as_text_never_as_markup(text: str):
    shown = markdown_to_safe_html(as_markdown(text))
    assert set(re.findall(r"</?(\w+)", shown)) <= {"p", "br"}
    plain = html.unescape(re.sub("<[^>]*>", "", shown)).replace("\xa0", " ")
    assert plain.split() == text.split()
    assert shown.count("<br") + 2 * (shown.count("<p>") - 1) == text.count("\n")


def test_a_missing_package_is_said_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = builtins.__import__

    def without_tensorboard(name: str, *arguments, **named):
        if name.startswith("tensorboard"):
            raise ImportError("No module named 'tensorboard'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    with pytest.raises(ValueError, match=r"pip install tensorboard.*training\.tensorboard = false"):
        EventFile(tmp_path / "events", first_step=1)
    assert not (tmp_path / "events").exists()


def loaded_by(code: str) -> set[str]:
    shown = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_tensorboard_is_loaded_only_where_it_is_used(tmp_path: Path):
    imported = "from modelwright.training.tensorboard import EventFile\n"
    assert "tensorboard" not in loaded_by(imported)
    # A TensorFlow that is installed would take seconds to load; nothing may ask for it.
    ask = (
        "import sys\nclass Refuse:\n    def find_spec(self, name, *rest):\n"
        "        assert name.split('.')[0] != 'tensorflow', 'tensorflow was asked for'\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    used = (
        f"{ask}{imported}from pathlib import Path\nEventFile(Path({str(tmp_path)!r}), first_step=1)"
    )
    loaded = loaded_by(used)
    assert "tensorboard" in loaded
    assert not loaded & {"torch", "tensorflow", "grpc"}
