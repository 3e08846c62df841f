"""Models in the folders that Hugging Face's transformers, and vLLM with it, read and write.

    config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json

Large weights are in several files beside a `model.safetensors.index.json`. Reading keeps every bit
of weights in bf16, fp16 and fp32; pickles are never opened.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from modelwright.accounting.parameters import count_parameters
from modelwright.checkpoint.bundle import Bundle, distinct_weights, kind, write_bundle
from modelwright.interop.agreement import Agreement, compare, is_installed
from modelwright.interop.card import model_card
from modelwright.interop.configs import ours_of
from modelwright.interop.families import family_of, theirs_of
from modelwright.interop.folders import model_folder, refuse_occupied
from modelwright.interop.foreign_weights import read_weights
from modelwright.interop.hub import fetch_model, is_hub_id
from modelwright.interop.name_maps import layouts, our_tensors, places, to_ours, to_theirs
from modelwright.model.config import ModelConfig
from modelwright.runtime.manifest import write_manifest
from modelwright.tokenizer.formats import (
    parse_tokenizer_json,
    read_vocab_and_merges,
    write_huggingface_folder,
)
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
most_bytes_in_a_file = 4_000_000_000


@dataclass(frozen=True)
class ForeignModel:
    """A model of somebody else's, in our words."""

    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    notes: tuple[str, ...]  # what its owner should know, a sentence each


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked."""

    folder: Path
    family: str
    n_parameters: int
    n_bytes: int
    agreement: Agreement | None  # None: transformers is not installed


def read_model(source: str, *, vocab_multiple: int = 1) -> ForeignModel:
    """Read a model from a folder, or from the Hugging Face hub.

    Args:
        source: a folder; or OWNER/NAME or OWNER/NAME@REVISION on the hub.
        vocab_multiple: up to a multiple of this the token matrices get rows of zeros.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if something in it is missing, damaged, or nothing that our model can be.
    """
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists() or not is_hub_id(source):
            raise FileNotFoundError(
                f"there is no folder {source}; give one with a config.json, or OWNER/NAME on the "
                "Hugging Face hub"
            )
        folder = fetch_model(source)
    config = ours_of(_read_config(folder), vocab_multiple=vocab_multiple)
    tokenizer, notes = _read_tokenizer(folder, config.known_vocab)
    layout = layouts[family_of(config)]
    where = places(layout, config)
    expected = {name: tensor.shape for name, tensor in to_theirs(where, our_tensors(config))}
    tensors = read_weights(folder, expected, layout, is_tied=config.tie_embeddings)
    return ForeignModel(config, dict(to_ours(where, tensors)), tokenizer, notes)


def import_model(
    source: str, out: Path, *, vocab_multiple: int = 1, force: bool = False
) -> ForeignModel:
    """Read a model as `read_model` does and write it as a bundle, in one piece.

    Args:
        force: whether a model that is at `out` may be replaced.

    Raises:
        FileExistsError: if something is there already.
    """
    refuse_occupied(out, force=force, option="--out", source=Path(source))
    model = read_model(source, vocab_multiple=vocab_multiple)
    with model_folder(out, force=force, option="--out") as unfinished:
        write_bundle(unfinished, model.config, model.weights, model.tokenizer)
        write_manifest(unfinished, kind, {"imported_from": source})
    return model


def export_model(
    bundle: Bundle,
    folder: Path,
    *,
    dtype: str = "fp32",
    force: bool = False,
    most_bytes: int = most_bytes_in_a_file,
) -> Exported:
    """Write a model as a folder that transformers opens with no code of ours, in one piece.

    Where transformers is installed the folder is loaded with it and has to give our logits before
    it takes its place.

    Args:
        dtype: of the stored weights, one of `dtypes`.
        force: whether a model that is there may be replaced.
        most_bytes: of a weights file; what is larger is put into several.

    Raises:
        FileExistsError: if something is there already.
        ValueError: if no family of theirs has this model's settings, or the dtype cannot hold it.
    """
    if dtype not in dtypes:
        raise ValueError(
            f"--dtype is {dtype}, which --format huggingface has not; choose one of "
            f"{', '.join(dtypes)}"
        )
    config, vocabulary = bundle.model.config, bundle.tokenizer.vocabulary
    end_of_text = vocabulary.special_tokens.get(END_OF_TEXT)
    dtype_name = str(dtypes[dtype]).removeprefix("torch.")
    content = theirs_of(config, dtype=dtype_name, end_of_text=end_of_text)
    family = family_of(config)
    refuse_occupied(folder, force=force, option="--to", source=bundle.folder)
    where = places(layouts[family], config)
    weights = {
        name: _rounded(name, tensor, dtypes[dtype])
        for name, tensor in to_theirs(where, distinct_weights(bundle.model))
    }
    with model_folder(folder, force=force, option="--to") as unfinished:
        _write_json(unfinished / "config.json", content)
        ends = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
        _write_json(unfinished / "generation_config.json", ends)
        write_huggingface_folder(vocabulary, unfinished)
        n_bytes = _write_weights(unfinished, weights, most_bytes)
        agreement = compare(unfinished, bundle, dtypes[dtype]) if is_installed() else None
        card = model_card(bundle, folder.name, dtype=dtype, family=family, agreement=agreement)
        (unfinished / "README.md").write_text(card)
    return Exported(folder, family, count_parameters(config).total, n_bytes, agreement)


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no config.json, so it is no model for transformers; name a folder "
            "that save_pretrained wrote"
        )
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, where a JSON object belongs")
    if "tokenizer_fingerprint" in content:
        raise ValueError(
            f"{folder} is a model of modelwright already; use it as it is, with no import"
        )
    return content


def _read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer, tuple[str, ...]]:
    """The tokenizer beside a model, with a name for each id that only the model has."""
    vocabulary, notes = _read_vocabulary(folder)
    n_vocab = len(vocabulary.tokens)
    if n_vocab > vocab_size:
        raise ValueError(
            f'the tokenizer in {folder} has {n_vocab} tokens, but "vocab_size" is {vocab_size} in '
            "config.json; take the tokenizer that belongs to the weights"
        )
    if n_vocab < vocab_size:
        unused = {f"<|unused_{i}|>": i for i in range(n_vocab, vocab_size)}
        vocabulary = replace(
            vocabulary,
            tokens=(*vocabulary.tokens, *(text.encode() for text in unused)),
            special_tokens={**vocabulary.special_tokens, **unused},
        )
        notes.append(
            f"the tokenizer has {n_vocab} tokens and the model {vocab_size}; the last "
            f"{vocab_size - n_vocab} ids are named <|unused_ID|>"
        )
    if END_OF_TEXT not in vocabulary.special_tokens:
        notes.append(
            f"the tokenizer has no {END_OF_TEXT}, with which documents begin and end here; the "
            "model can be evaluated and exported, but not trained on or sampled from"
        )
    return Tokenizer(vocabulary), tuple(notes)


def _read_vocabulary(folder: Path) -> tuple[Vocabulary, list[str]]:
    path, pair = folder / "tokenizer.json", (folder / "vocab.json", folder / "merges.txt")
    if not path.is_file():
        if not all(one.is_file() for one in pair):
            raise ValueError(
                f"{folder} holds neither a tokenizer.json nor a vocab.json with a merges.txt; put "
                "the model's tokenizer beside it"
            )
        return read_vocab_and_merges(*pair), []
    content = path.read_bytes()
    try:
        return parse_tokenizer_json(content), []
    except ValueError as error:
        if "drop_template" not in str(error):
            raise ValueError(f"{path}: {error}") from None
    try:
        vocabulary = parse_tokenizer_json(content, drop_template=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return vocabulary, ["the tokens that its tokenizer puts around every text are left out"]


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in the type that is stored.

    Raises:
        ValueError: if it has no such numbers.
    """
    stored = tensor.to(dtype)
    if not stored.isfinite().all():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite; the model is broken")
        raise ValueError(
            f"{name} reaches {tensor.abs().max().item():.3g}, more than --dtype fp16 can hold; "
            "choose bf16"
        )
    return stored.cpu().contiguous()


def _write_weights(folder: Path, weights: Mapping[str, Tensor], most_bytes: int) -> int:
    """Write one weights file, or several with an index; returns the bytes of all tensors."""
    files = list(_portions(weights, most_bytes))
    total = sum(tensor.nbytes for tensor in weights.values())
    weight_map: dict[str, str] = {}
    for number, portion in enumerate(files, start=1):
        name = "model.safetensors"
        if len(files) > 1:
            name = f"model-{number:05}-of-{len(files):05}.safetensors"
        # transformers wants to be told whose tensors these are.
        (folder / name).write_bytes(save(dict(portion), metadata={"format": "pt"}))
        weight_map |= dict.fromkeys(portion, name)
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(folder / "model.safetensors.index.json", index)
    return total


def _portions(weights: Mapping[str, Tensor], most_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Tensors in their order, as many in each portion as fit; a larger one stands alone."""
    portion: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if portion and sum(one.nbytes for one in portion.values()) + tensor.nbytes > most_bytes:
            yield portion
            portion = {}
        portion[name] = tensor
    yield portion


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
