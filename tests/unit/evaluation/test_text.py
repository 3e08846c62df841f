import math
from pathlib import Path

import numpy as np
import pytest
import torch

import small
from modelwright.data.building import build_data
from modelwright.data.folder import open_data
from modelwright.evaluation.scoring import Scorer
from modelwright.evaluation.text import (
    TextScore,
    Window,
    documents_of,
    is_shards,
    portions_of,
    score_windows,
    text_sha256,
    windows,
)
from modelwright.model.transformer import Transformer
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer

tokenizer = small.tokenizer()


def model(context: int = 11) -> Transformer:
    return small.model(vocab_size=tokenizer.n_vocab, context=context).eval()


def cut(text: str, *, context: int = 11, stride: int = 5, by: Tokenizer = tokenizer):
    return list(windows(by.encode(text), by, context=context, stride=stride))


def score(by: Transformer, found: list[Window]) -> TextScore:
    return score_windows(Scorer(by), found)


text = small.texts(1)[0]


@pytest.mark.parametrize("stride", [1, 4, 11])
def test_windows_score_each_token_once_with_as_much_before_it_as_fits(stride: int):
    ids = tokenizer.encode(text).tolist()
    found = cut(text, stride=stride)
    assert [token for window in found for token in window.text.targets] == ids
    assert sum(window.n_bytes for window in found) == len(text.encode())
    assert found[0].text.ids[0] == tokenizer.end_of_text
    assert [window.begins_document for window in found] == [True] + [False] * (len(found) - 1)
    for window in found[1:]:
        assert len(window.text.inputs) == 11 and window.text.n_scored <= stride


def test_a_text_that_fits_is_one_window():
    [window] = cut("Once upon", context=50)
    assert window.text.n_scored == len(tokenizer.encode("Once upon"))


@pytest.mark.parametrize("stride", [0, 12])
def test_a_stride_that_no_window_can_make_is_refused(stride: int):
    with pytest.raises(ValueError, match=rf"--stride is {stride}, but .* from 1 to .* context, 11"):
        cut(text, stride=stride)


def test_the_score_is_the_sum_over_all_tokens():
    by = model(context=400)
    ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()][:401]
    with torch.no_grad():
        logits = by(torch.tensor([ids[:-1]]))[0]
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
    found = score(by, cut(tokenizer.decode(ids[1:]), context=400, stride=200))
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.n_tokens == len(ids) - 1 and found.n_documents == 1


def test_a_small_stride_sees_more_and_changes_the_score():
    by = model()
    assert score(by, cut(text, stride=2)).nats != score(by, cut(text, stride=11)).nats


def test_documents_do_not_see_each_other():
    by = model()
    one, another = cut("Once upon a time there was"), cut("a dog")
    together = score(by, one + another)
    apart = score(by, one) + score(by, another)
    assert together.nats == pytest.approx(apart.nats, rel=1e-5)
    assert together.n_documents == apart.n_documents == 2
    assert together.squares == pytest.approx(apart.squares, rel=1e-5)


def uniform(by: Tokenizer) -> Transformer:
    made = small.model(vocab_size=by.n_vocab).eval()
    with torch.no_grad():
        made.embedding.weight.zero_()
        made.unembedding.weight.zero_()
    return made


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large():
    found = score(uniform(tokenizer), cut(text))
    assert found.perplexity == pytest.approx(tokenizer.n_vocab, rel=1e-5)
    bits = len(tokenizer.encode(text)) * math.log2(tokenizer.n_vocab) / len(text.encode())
    assert found.bits_per_byte == pytest.approx(bits, rel=1e-5)


def test_bits_per_byte_do_not_depend_on_how_the_text_is_cut_into_tokens():
    """Each byte carries 3 bits; one tokenizer needs two tokens where the other needs one."""
    nats = 1000 * 3 * math.log(2)
    long = TextScore(nats, n_tokens=250, n_bytes=1000)
    short = TextScore(nats, n_tokens=500, n_bytes=1000)
    assert long.bits_per_byte == short.bits_per_byte == pytest.approx(3)
    assert long.perplexity == pytest.approx(short.perplexity**2) == pytest.approx(2**12)


def test_two_tokenizers_measure_the_same_bytes():
    coarse = train_tokenizer(small.texts(), vocab_size=600)
    fine, rough = score(uniform(tokenizer), cut(text)), score(uniform(coarse), cut(text, by=coarse))
    assert fine.n_bytes == rough.n_bytes == len(text.encode())
    assert fine.n_tokens > rough.n_tokens


def test_the_error_is_that_of_a_ratio_and_needs_two_windows():
    rng = np.random.default_rng(0)
    n_bytes = rng.integers(20, 40, 400).astype(float)
    nats = 2 * n_bytes + rng.normal(0, 5, 400)
    whole = TextScore(
        float(nats.sum()),
        400,
        int(n_bytes.sum()),
        1,
        400,
        (float(nats @ nats), float(nats @ n_bytes), float(n_bytes @ n_bytes)),
    )
    picks = rng.integers(0, 400, (2000, 400))
    ratios = nats[picks].sum(1) / n_bytes[picks].sum(1) / math.log(2)
    assert whole.stderr == pytest.approx(ratios.std(), rel=0.05)
    assert score(model(), cut("a")).stderr is None


def test_portions_hold_all_windows_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("modelwright.evaluation.text.portion_tokens", 30)
    found = cut(text)
    portions = list(portions_of(iter(found)))
    assert [window for portion in portions for window in portion] == found
    assert len(portions) > 3


def test_documents_come_from_files_and_folders(tmp_path: Path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n')
    found = [tokenizer.decode(ids) for ids in documents_of(tmp_path, tokenizer)]
    assert found == ["one", "two", "three"]
    before = text_sha256(tmp_path)
    (tmp_path / "a.txt").write_text("other")
    assert text_sha256(tmp_path) != before


def test_bytes_that_are_no_text_count_as_they_are(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"ab\xff\xfe\x00c")
    [ids] = documents_of(tmp_path / "a.txt", tokenizer)
    [window] = windows(ids, tokenizer, context=11, stride=11)
    assert window.n_bytes == 6


def test_shards_give_the_documents_of_the_validation_part(tmp_path: Path):
    config = small.run_config(tmp_path, "data.validation_fraction=0.3")
    build_data(config.data, config.tokenizer)
    folder = Path(config.data.folder)
    assert is_shards(folder) and not is_shards(tmp_path)
    made = Tokenizer.load(folder / "tokenizer.json")
    found = list(documents_of(folder, made))
    counts = open_data(folder).facts["splits"]["validation"]
    assert len(found) == counts["n_documents"]
    assert sum(len(made.decode_bytes(ids)) for ids in found) == counts["n_bytes"]
    assert all(made.end_of_text not in ids for ids in found)
    with pytest.raises(ValueError, match="is made with the tokenizer .* but the model was trained"):
        list(documents_of(folder, train_tokenizer(small.texts(3), vocab_size=270)))
