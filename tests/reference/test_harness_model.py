"""Our model inside lm-evaluation-harness, beside the same model as the harness loads it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness
import saving
import small
from modelwright.checkpoint.bundle import Bundle, load_bundle
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import generate
from modelwright.interop.huggingface import export_model

pytestmark = pytest.mark.usefixtures("one_thread")


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance  # pyright: ignore[reportMissingImports]

    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=number)
        for number, one in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    saving.save(
        folder,
        context=24,
        bias=True,
        n_kv_heads=4,
        norm="layernorm",
        mlp="gelu_tanh",
        positions="learned",
        tie_embeddings=True,
    )
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return load_bundle(run / "checkpoints" / "step-000001")


@pytest.fixture(scope="module")
def ours(bundle: Bundle) -> Any:
    harness.library()
    from modelwright.evaluation.harness import HarnessModel

    return HarnessModel(bundle=bundle)


@pytest.fixture(scope="module")
def theirs(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    harness.library()
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(bundle, folder)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)


def test_continuations_score_the_same(ours: Any, theirs: Any):
    texts = small.texts(4)
    pairs = [(text[:20], text[20:30]) for text in texts]
    pairs += [(texts[0][:20], " and"), (texts[0][:20], " dog"), ("", "Once upon"), ("ab ", "c")]
    pairs += [(texts[1][:90], texts[1][90:95])]  # beyond the context
    found = ours.loglikelihood(requests("loglikelihood", *pairs))
    expected = theirs.loglikelihood(requests("loglikelihood", *pairs))
    assert [one for one, _ in found] == pytest.approx([one for one, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_whole_texts_score_the_same(ours: Any, theirs: Any):
    texts = [(text[:n],) for text, n in zip(small.texts(4), (3, 40, 100, 300), strict=True)]
    found = ours.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    expected = theirs.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    assert found == pytest.approx(expected, abs=1e-3)


def test_texts_are_written_greedily_until_a_stop(ours: Any, bundle: Bundle):
    wishes = {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}
    found = ours.generate_until(
        requests("generate_until", ("Once", wishes), ("The dog", wishes), ("Once", wishes))
    )
    [greedy] = generate(
        bundle.model,
        bundle.tokenizer,
        "Once",
        n_samples=1,
        max_tokens=8,
        sampling=SamplingConfig(temperature=0),
        seed=0,
    )
    assert found[0] == found[2] == greedy.text.removeprefix("Once")
    first = found[0][:1]
    stopped = ours.generate_until(requests("generate_until", ("Once", wishes | {"until": first})))
    assert stopped == [""]


def test_the_harness_runs_with_our_model_by_name(run: Path, tmp_path: Path):
    """The harness's own command, on a task in a file of its kind."""
    harness.library()
    rows = [{"text": text[:60]} for text in small.texts(6)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "last_word.yaml").write_text(
        json.dumps(
            {
                "task": "last_word",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(data)}},
                "test_split": "test",
                **harness.short_layouts["lambada_openai"],
            }
        )
    )
    words = [
        sys.executable,
        "-m",
        "modelwright.evaluation.harness",
        "run",
        "--model",
        "modelwright",
    ]
    words += ["--model_args", f"path={run}", "--device", "cpu", "--tasks", "last_word"]
    words += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "|last_word|" in done.stdout and "perplexity" in done.stdout
    own = [
        sys.executable,
        "-m",
        "modelwright",
        "evaluate",
        str(run),
        "--harness",
        "--device",
        "cpu",
    ]
    own += ["--tasks", "last_word", "--include-path", str(tmp_path), "--limit", "4"]
    done = subprocess.run(own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "|last_word|" in done.stdout and "PARTIAL: the first 4 items" in done.stderr
