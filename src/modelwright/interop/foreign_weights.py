"""The tensors of somebody else's model: safetensors files only, all of them, in fp32."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from modelwright.interop.hub import index_file, shards_named, weights_file
from modelwright.interop.name_maps import Layout

readable = (torch.float32, torch.bfloat16, torch.float16)
pickles = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

# What old files hold besides weights: the causal mask, and angles that follow from the config.
_no_weights = re.compile(r"(.*\.)?(h\.\d+\.attn\.(masked_)?bias|rotary_emb\.inv_freq)")
_most_named = 4


def read_weights(
    folder: Path, expected: Mapping[str, torch.Size], layout: Layout, *, is_tied: bool
) -> dict[str, Tensor]:
    """Read exactly the expected tensors.

    Args:
        is_tied: whether the output matrix is the input one, so that a second copy is left out.

    Raises:
        ValueError: if there are no safetensors, one is damaged, or a tensor is missing, left over,
            twice there, of another shape, or in a type that is not read.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_paths(folder):
        for stored_name, tensor in _tensors_in(path):
            if _no_weights.fullmatch(stored_name):
                continue
            name = stored_name
            # The name of the whole model's part that was saved alone.
            if name not in expected and f"{layout.prefix}{name}" in expected:
                name = f"{layout.prefix}{name}"
            if name in tensors:
                raise ValueError(f"{path} holds {stored_name}, which is in another file too")
            if tensor.dtype not in readable:
                raise ValueError(
                    f"{path} holds {stored_name} in {_name_of(tensor.dtype)}; read are "
                    f"{', '.join(map(_name_of, readable))}"
                )
            tensors[name] = tensor.float()
    if is_tied:
        _drop_copy(folder, tensors, layout)
    _require_names(folder, tensors, expected)
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"{folder} holds {name} as {tuple(tensors[name].shape)}, but config.json makes it "
                f"{tuple(shape)}"
            )
    return tensors


def weight_paths(folder: Path) -> Sequence[Path]:
    """The weights files of a model.

    Raises:
        ValueError: if there are none, or one that the index lists is missing.
    """
    if (folder / weights_file).is_file():
        return [folder / weights_file]
    if (folder / index_file).is_file():
        paths = [folder / name for name in shards_named(folder / index_file)]
        for path in paths:
            if not path.is_file():
                raise ValueError(f"{path} is missing, though {index_file} lists it; fetch it")
        return paths
    found = sorted(path.name for pattern in pickles for path in folder.glob(pattern))
    if found:
        raise ValueError(
            f"{folder} holds no safetensors but {', '.join(found[:_most_named])}, a pickle, which "
            "can run any code when it is opened and is never read here; take a revision with "
            f"{weights_file}, or, where you trust the file, load it with transformers and write it "
            "with save_pretrained(FOLDER, safe_serialization=True)"
        )
    raise ValueError(f"{folder} holds no {weights_file} and no {index_file}; fetch the weights")


def _tensors_in(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None


def _drop_copy(folder: Path, tensors: dict[str, Tensor], layout: Layout) -> None:
    """Leave out the output matrix of a model that has it in common with the input."""
    copy = tensors.pop(f"{layout.outer['unembedding']}.weight", None)
    original = tensors.get(f"{layout.outer['embedding']}.weight")
    if copy is not None and original is not None and not torch.equal(copy, original):
        raise ValueError(
            f'{folder} holds two different token matrices, but "tie_word_embeddings" is true in '
            "config.json; set it to false if both belong to the model"
        )


def _require_names(
    folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]
) -> None:
    odd = [f"{name} (missing)" for name in expected if name not in tensors]
    odd += [f"{name} (left over)" for name in tensors if name not in expected]
    if odd:
        more = f" and {len(odd) - _most_named} more" if len(odd) > _most_named else ""
        raise ValueError(
            f"the weights in {folder} and its config.json disagree about "
            f"{', '.join(odd[:_most_named])}{more}"
        )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
