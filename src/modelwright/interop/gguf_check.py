"""Reading a GGUF file back with the package's own reader, and comparing it with what was meant."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]

block_size = 32  # numbers that share a scale in q8_0
# Half a step of a block's 127 steps each way, and the rounding of its scale to fp16, which cannot
# be finer than that format's smallest number.
step_share, scale_share, least_error = 0.5 / 127, 2.0**-10, 127 * 2.0**-24


def compare(path: Path, tensors: Mapping[str, Numbers], tokens: list[str]) -> float:
    """Read a file back and compare it with what was meant.

    Returns:
        The largest error of a number.

    Raises:
        RuntimeError: if a token or tensor is another, or further away than rounding allows.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    field = reader.get_field("tokenizer.ggml.tokens")
    if field is None or field.contents() != tokens:
        raise RuntimeError(f"{path.name} gives other tokens back than were written")
    found = {tensor.name: tensor for tensor in reader.tensors}
    if found.keys() != tensors.keys():
        raise RuntimeError(f"{path.name} gives other tensors back than were written")
    largest = 0.0
    for name, expected in tensors.items():
        kind = found[name].tensor_type
        numbers = gguf.quants.dequantize(found[name].data, kind)
        if numbers.shape != expected.shape:
            raise RuntimeError(f"{name} is {numbers.shape} in {path.name}, not {expected.shape}")
        error = np.abs(numbers - expected)
        if not (error <= allowed_error(expected, kind.name)).all():
            raise RuntimeError(f"{name} in {path.name} is further off than {kind.name} rounds")
        largest = max(largest, float(error.max()))
    return largest


def allowed_error(numbers: Numbers, type_name: str) -> Numbers:
    """How far each stored number may be from the one that was meant."""
    if type_name == "F32":
        return np.zeros_like(numbers)
    if type_name == "F16":
        return np.abs(numbers - numbers.astype(np.float16).astype(np.float32))
    blocks = numbers.reshape(*numbers.shape[:-1], -1, block_size)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    bound = largest * (step_share + scale_share) + least_error
    return np.broadcast_to(bound, blocks.shape).reshape(numbers.shape)
