import json
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

import foreign
from modelwright.interop.hub import fetch_model, is_hub_id
from modelwright.interop.huggingface import read_model


class Cache:
    """What `hf_hub_download` finds of one repository, and what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, str | None]] = []
        self.is_offline = False

    def download(self, repository: str, name: str, *, revision: str | None = None) -> str:
        self.asked.append((repository, name, revision))
        if not (self.folder / name).exists():
            if self.is_offline:
                raise errors.LocalEntryNotFoundError("outgoing traffic has been disabled")
            raise errors.EntryNotFoundError(name)
        return str(self.folder / name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    found = Cache(foreign.save(foreign.model("llama"), tmp_path / "hub", max_shard_size="30KB"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", found.download)
    return found


@pytest.mark.parametrize("is_offline", [False, True])
def test_a_model_comes_from_the_hub_or_its_cache(cache: Cache, is_offline: bool):
    cache.is_offline = is_offline
    found = read_model("someone/tiny@v1.0").weights
    assert found.keys() == read_model(str(cache.folder)).weights.keys()
    assert {(repository, revision) for repository, _, revision in cache.asked} == {
        ("someone/tiny", "v1.0")
    }
    fetched = {name for _, name, _ in cache.asked}
    assert {path.name for path in cache.folder.glob("*.safetensors")} <= fetched
    assert not any(name.endswith((".bin", ".py")) for name in fetched)


def test_what_is_not_in_the_cache_is_said(cache: Cache):
    cache.is_offline = True
    (cache.folder / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json of a/b is not in the cache, and the hub can"):
        fetch_model("a/b")


def test_a_repository_without_a_config_or_with_pickles_alone_is_refused(cache: Cache):
    for path in cache.folder.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(ValueError, match="a/b holds no model.safetensors, and pickles are never"):
        fetch_model("a/b")
    (cache.folder / "config.json").unlink()
    with pytest.raises(ValueError, match="a/b holds no config.json, so it is no model"):
        fetch_model("a/b")


def test_an_index_of_the_hub_cannot_name_files_elsewhere(cache: Cache):
    index = {"weight_map": {"x": "../../secret.safetensors"}}
    (cache.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="which is no file beside it"):
        fetch_model("a/b")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'modelwright\[hub\]'"):
        fetch_model("a/b")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("openai-community/gpt2", True),
        ("a/b@main", True),
        ("a/b@refs/pr/1", True),
        ("gpt2", False),
        ("a/b/c", False),
        ("/a/b", False),
        ("a/b@", False),
    ],
)
def test_how_a_repository_is_named(name: str, is_one: bool):
    assert is_hub_id(name) == is_one


@pytest.mark.parametrize("name", ["nowhere", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name: str):
    with pytest.raises(FileNotFoundError, match=f"there is no folder {name}; give one with a"):
        read_model(name)
