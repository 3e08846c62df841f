import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from modelwright.tokenizer.formats import tokenizer_json, write_vocab_and_merges
from modelwright.tokenizer.hub import load_from_hub
from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

VOCABULARY = Vocabulary(
    tokens=(*(bytes([value]) for value in range(256)), b"ab", END_OF_TEXT.encode()),
    merges=((ord("a"), ord("b")),),
    special_tokens={END_OF_TEXT: 257},
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the repository "some/model", at the revision "v1"."""

    def download(repo_id: str, filename: str, *, revision: str | None = None) -> str:
        if repo_id == "unreachable":
            raise errors.LocalEntryNotFoundError("no connection")
        assert (repo_id, revision) == ("some/model", "v1")
        if not (tmp_path / filename).exists():
            raise errors.EntryNotFoundError(f"no {filename}")
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return tmp_path


def test_the_tokenizer_json_of_a_repository_is_read(repository: Path):
    (repository / "tokenizer.json").write_bytes(tokenizer_json(VOCABULARY))
    (repository / "vocab.json").write_text("not read")
    assert load_from_hub("some/model", revision="v1") == VOCABULARY


def test_vocab_and_merges_are_read_where_there_is_no_tokenizer_json(repository: Path):
    write_vocab_and_merges(VOCABULARY, repository)
    assert load_from_hub("some/model", revision="v1") == VOCABULARY
    cut = load_from_hub("some/model", revision="v1", pattern=PATTERNS["o200k"])
    assert cut.pattern == PATTERNS["o200k"]


def test_a_repository_without_a_tokenizer_says_what_is_missing(repository: Path):
    with pytest.raises(ValueError, match=r"some/model holds neither a tokenizer\.json nor a voc"):
        load_from_hub("some/model", revision="v1")


def test_the_repository_of_a_broken_file_is_in_the_message(repository: Path):
    (repository / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json of some/model: .* has no dict"):
        load_from_hub("some/model", revision="v1")


def test_without_a_connection_the_message_says_what_to_do(repository: Path):
    with pytest.raises(ValueError, match="cannot be reached .* give its path"):
        load_from_hub("unreachable")


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'modelwright\[hub\]'.*give its path"):
        load_from_hub("some/model")
