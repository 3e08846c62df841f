"""`modelwright import`: other people's models."""

import sys
from pathlib import Path

import typer


def import_(
    source: str = typer.Argument(
        ...,
        help="A folder with config.json and safetensors, or OWNER/NAME or OWNER/NAME@REVISION on "
        "the Hugging Face hub.",
    ),
    out: Path = typer.Option(..., "--out", help="The folder that the model goes to."),
    vocab_multiple: int = typer.Option(
        1,
        "--vocab-multiple",
        min=1,
        help="Fill the token matrices up to a multiple of this, which GPUs multiply faster.",
    ),
    force: bool = typer.Option(False, "--force", help="Replace a model that is there."),
) -> None:
    """Read a model of Hugging Face's GPT-2, Llama, Mistral, Qwen3 or StarCoder2 family."""
    from modelwright.accounting.parameters import count_parameters
    from modelwright.interop.huggingface import import_model

    model = import_model(source, out, vocab_multiple=vocab_multiple, force=force)
    for note in model.notes:
        print(f"note: {note}", file=sys.stderr)
    n_parameters = count_parameters(model.config).total
    print(f"{out}: {n_parameters:,} parameters, {model.tokenizer.n_vocab:,} tokens")
    print(f"try      modelwright generate {out} --prompt 'One day'")
    print(f"or       modelwright train --set training.init_from={out}")
