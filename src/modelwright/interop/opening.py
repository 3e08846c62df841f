"""Any folder with a model in it, as a bundle: a run, a checkpoint, a model of ours or of others."""

from collections.abc import Callable
from pathlib import Path

import torch

from modelwright.checkpoint.bundle import Bundle, distinct_weights, load_bundle
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.interop.huggingface import read_model
from modelwright.model.attention import choose_attention
from modelwright.model.transformer import Transformer
from modelwright.runtime.manifest import file_name


def open_model(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    averaged: bool = False,
    on_note: Callable[[str], None],
) -> Bundle:
    """Load the model in a folder; a run stands for its newest whole checkpoint.

    Args:
        dtype: in which its matrix products are done.
        averaged: take the moving average of the weights instead of the last ones.
        on_note: is told what its owner should know, such as checkpoints that are damaged.

    Raises:
        FileNotFoundError: if there is no such folder, or no model in it.
        ValueError: if something in it is damaged, or no model that we can be.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; name a run, checkpoint or model")
    if (folder / "config.json").is_file() and not (folder / file_name).is_file():
        if averaged:
            raise ValueError(f"{folder} is a model of another program, which keeps no average")
        return _open_foreign(folder, device, dtype, on_note)
    if not (folder / "model.safetensors").exists():
        folder, passed_over = newest_checkpoint(folder)
        for complaint in passed_over:
            on_note(f"passed over a damaged checkpoint: {complaint}")
    return load_bundle(folder, device=device, dtype=dtype, averaged=averaged)


def _open_foreign(
    folder: Path, device: torch.device, dtype: torch.dtype, on_note: Callable[[str], None]
) -> Bundle:
    foreign = read_model(str(folder))
    for note in foreign.notes:
        on_note(note)
    config = foreign.config
    kind = choose_attention(
        device,
        dtype,
        d_head=config.head_width,
        n_tokens=config.context,
        masked=config.masked_beyond_causal,
        dropout=0.0,
        deterministic=False,
    )
    model = Transformer(config, dtype=dtype, attention=kind)
    for name, weight in distinct_weights(model).items():
        weight.copy_(foreign.weights[name])
    return Bundle(folder, model.to(device).eval(), foreign.tokenizer)
