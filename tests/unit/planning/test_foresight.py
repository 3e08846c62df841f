import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import small
from modelwright.accounting.hardware import Peak
from modelwright.planning import foresight
from modelwright.planning.foresight import device_here, keep_plan, plan_run, read_plan
from modelwright.training.assembly import Prepared, prepare

peak = Peak(flops_per_second=3e12, source="measured here")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(small.run_config(tmp_path_factory.mktemp("data"), "tokenizer.vocab_size=290"))


def with_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    facts = SimpleNamespace(name=name, major=9, minor=1, total_memory=33 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: facts)
    monkeypatch.setattr(foresight, "measured_bandwidth", lambda *_: 1e12)


def test_the_device_is_the_processor_a_gpu_of_the_table_or_what_cuda_reports(
    monkeypatch: pytest.MonkeyPatch,
):
    assert device_here(torch.device("cpu"), "fp32", peak) is None
    with_gpu(monkeypatch, "NVIDIA H100 80GB HBM3")
    known = device_here(torch.device("cuda"), "bf16", peak)
    assert known is not None
    assert known.key == "h100"
    with_gpu(monkeypatch, "NVIDIA Wonder 3000")
    found = device_here(torch.device("cuda"), "bf16", peak)
    assert found is not None
    assert (found.title, found.capability) == ("NVIDIA Wonder 3000", (9, 1))
    assert found.usable_bytes == 33 * 2**30
    assert found.peak("bf16") is not None
    assert found.peaks == {"bf16": 3e12}


def test_a_run_on_a_gpu_that_nobody_knows_is_planned(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    with_gpu(monkeypatch, "NVIDIA Wonder 3000")
    training = dataclasses.replace(prepared.config.training, device="auto", compile=False)
    there = dataclasses.replace(
        prepared,
        config=dataclasses.replace(prepared.config, training=training),
        device=torch.device("cuda"),
        peak=peak,
    )
    plan = plan_run(there)
    assert plan.place.title == "NVIDIA Wonder 3000"
    assert plan.memory.usable_bytes == 33 * 2**30
    assert plan.time.price_usd is None


def test_the_vocabulary_is_the_tokenizers_own(prepared: Prepared):
    n_vocab = prepared.data.tokenizer.n_vocab
    config = dataclasses.replace(prepared.config.tokenizer, vocab_size=9999)
    other = dataclasses.replace(
        prepared, config=dataclasses.replace(prepared.config, tokenizer=config)
    )
    plan = plan_run(other)
    assert (plan.vocab_size, plan.vocab_source) == (n_vocab, "the run's tokenizer")


def test_a_plan_stays_until_a_setting_changes(prepared: Prepared, tmp_path: Path):
    keep_plan(tmp_path, prepared)
    first = read_plan(tmp_path)
    assert first is not None
    assert first["n_steps"] == 6
    marked = first | {"mark": 1}
    (tmp_path / "plan.json").write_text(json.dumps(marked))
    keep_plan(tmp_path, prepared)
    assert read_plan(tmp_path) == marked
    longer = dataclasses.replace(prepared.config.training, n_steps=7)
    keep_plan(
        tmp_path,
        dataclasses.replace(prepared, config=dataclasses.replace(prepared.config, training=longer)),
    )
    now = read_plan(tmp_path)
    assert now is not None
    assert now["n_steps"] == 7
    assert "mark" not in now


def test_a_plan_that_cannot_be_read_is_made_anew(prepared: Prepared, tmp_path: Path):
    (tmp_path / "plan.json").write_text('{"settings_sha')
    assert read_plan(tmp_path) is None
    keep_plan(tmp_path, prepared)
    assert read_plan(tmp_path) is not None
