"""`modelwright export`: models for other programs."""

import sys
from enum import StrEnum
from pathlib import Path

import typer


class Format(StrEnum):
    """What `export` can write."""

    huggingface = "huggingface"
    gguf = "gguf"


def export(
    model: Path = typer.Argument(..., help="A run folder, or one checkpoint or model."),
    to: Path = typer.Option(..., "--to", help="The folder that is made."),
    format: Format = typer.Option(
        Format.huggingface,
        "--format",
        help="huggingface for transformers and vLLM, gguf for llama.cpp.",
    ),
    dtype: str = typer.Option(
        "fp32", "--dtype", help="Of the weights: fp32, bf16, fp16; for gguf fp32, fp16, q8_0."
    ),
    averaged: bool = typer.Option(
        False, "--averaged", help="Use the moving average of the weights, if the run kept one."
    ),
    force: bool = typer.Option(False, "--force", help="Replace a model that is there."),
) -> None:
    """Write a model as other programs open it, and check what was written."""
    from modelwright.checkpoint.bundle import load_bundle
    from modelwright.checkpoint.resume import newest_checkpoint
    from modelwright.interop.folders import refuse_occupied
    from modelwright.runtime.files import readable_size

    if not model.is_dir():
        raise FileNotFoundError(f"there is no folder {model}; name a run, checkpoint or model")
    refuse_occupied(to, force=force, option="--to")
    folder, passed_over = model, []
    if not (model / "model.safetensors").exists():
        folder, passed_over = newest_checkpoint(model)
    for complaint in passed_over:
        print(f"note: passed over a damaged checkpoint: {complaint}", file=sys.stderr)
    bundle = load_bundle(folder, averaged=averaged)
    if format is Format.gguf:
        from modelwright.interop.gguf import export_gguf

        written = export_gguf(bundle, to, dtype=dtype, force=force)
        checked = written.in_words()
    else:
        from modelwright.interop.card import in_words
        from modelwright.interop.huggingface import export_model

        written = export_model(bundle, to, dtype=dtype, force=force)
        checked = (
            f"not compared with transformers, which is not installed: {sys.executable} -m pip "
            "install transformers"
            if written.agreement is None
            else in_words(written.agreement)
        )
    print(
        f"{to}: {written.family}, {written.n_parameters:,} parameters in {dtype}, "
        f"{readable_size(written.n_bytes)}"
    )
    print(f"checked: {checked}" if not checked.startswith("not ") else checked)
