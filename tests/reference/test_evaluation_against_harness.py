"""Our scores and those of lm-evaluation-harness, item by item, for one model."""

from pathlib import Path
from typing import Any

import pytest

import harness
import small
from modelwright.checkpoint.bundle import Bundle, distinct_weights, write_bundle
from modelwright.evaluation.running import Evaluation
from modelwright.evaluation.tasks import find_file, read_task, tasks
from modelwright.interop.huggingface import export_model
from modelwright.model.transformer import Transformer
from modelwright.tokenizer.formats import read_vocab_and_merges
from modelwright.tokenizer.tokenizer import Tokenizer

pytestmark = [pytest.mark.data, pytest.mark.usefixtures("one_thread")]
n_items = 200
# The same sums in fp32 in another order, over hundreds of tokens.
nats_apart = 1e-3


def gpt2_tokenizer(data_folder: Path) -> Tokenizer:
    gpt2 = data_folder / "gpt2"
    return Tokenizer(read_vocab_and_merges(gpt2 / "gpt2_vocab.json", gpt2 / "gpt2_merges.txt"))


def gpt2_shaped(tokenizer: Tokenizer, context: int) -> Transformer:
    """A model of GPT-2's shape with chance weights, but narrow."""
    return small.model(
        vocab_size=tokenizer.n_vocab,
        context=context,
        d_model=32,
        n_heads=4,
        n_kv_heads=4,
        d_ff=128,
        norm="layernorm",
        positions="learned",
        mlp="gelu_tanh",
        bias=True,
        tie_embeddings=True,
    ).eval()


class Both:
    """One model, with us and with the harness."""

    def __init__(self, folder: Path, data: Path, tokenizer: Tokenizer, context: int) -> None:
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

        self.data = data
        bundle = Bundle(folder / "ours", gpt2_shaped(tokenizer, context), tokenizer)
        bundle.folder.mkdir()
        write_bundle(bundle.folder, bundle.model.config, distinct_weights(bundle.model), tokenizer)
        self.exported = folder / "theirs"
        export_model(bundle, self.exported)
        self.theirs = HFLM(
            pretrained=str(self.exported), device="cpu", dtype="float32", batch_size=8
        )
        self.ours = Evaluation(bundle, folder / "records")

    def require_equal(self, name: str, limit: int) -> dict[str, Any]:
        """Hold our outcomes beside the harness's samples; returns what the harness says in all."""
        task = tasks[name]
        path = find_file(task, self.data)
        result = self.ours.task(task, read_task(task, path, limit=limit))
        found = harness.samples(self.theirs, [harness.config_of(name, path)], limit)
        rows = found["samples"][f"local_{name}"]
        assert len(rows) == len(result.outcomes) == limit
        for place, row in enumerate(rows):
            item, outcome = result.file.items[place], result.outcomes[place]
            assert [tuple(pair) for pair in row["arguments"]] == list(item.pairs)
            answers = [answer for [answer] in row["resps"]]
            assert outcome.logprobs == pytest.approx([one for one, _ in answers], abs=nats_apart)
            assert outcome.greedy == tuple(greedy for _, greedy in answers)
            for metric in {*task.metrics} & row.keys() - {"perplexity"}:
                assert result.values(metric)[place] == float(row[metric]), (place, metric)
        return {"ours": result, "theirs": found["results"][f"local_{name}"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Both:
    """With a small vocabulary, since the harness computes all logits."""
    harness.library()
    folder = tmp_path_factory.mktemp("both")
    return Both(folder, data_folder / "eval", small.tokenizer(2000), context=2048)


@pytest.fixture(scope="module")
def short_sighted(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Both:
    harness.library()
    folder = tmp_path_factory.mktemp("short")
    return Both(folder, data_folder / "eval", gpt2_tokenizer(data_folder), context=80)


@pytest.mark.parametrize("name", tasks)
def test_every_item_is_scored_as_the_harness_scores_it(both: Both, name: str):
    limit = min(n_items, tasks[name].n_items)
    found = both.require_equal(name, limit)
    for metric in tasks[name].metrics:
        ours = found["ours"].score(metric)
        scale = 1 if metric == "perplexity" else 100
        theirs = found["theirs"].get(f"{metric},none")
        if theirs is None:
            continue
        assert ours.value == pytest.approx(scale * theirs, rel=1e-3)
        if metric != "perplexity":
            error = found["theirs"][f"{metric}_stderr,none"]
            if error != "N/A":
                assert ours.stderr == pytest.approx(scale * error, rel=1e-6)


@pytest.mark.parametrize("name", ["boolq", "lambada_openai", "copa"])
def test_contexts_are_cut_where_the_harness_cuts_them(short_sighted: Both, name: str):
    found = short_sighted.require_equal(name, 40)
    assert (found["ours"].n_truncated > 0) == (name != "copa")
