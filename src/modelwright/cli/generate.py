"""`modelwright generate`: let a trained model write."""

import sys
import time
from pathlib import Path

import typer


def generate(
    model: Path = typer.Argument(..., help="A run folder, or one checkpoint in it."),
    prompt: str = typer.Option(
        "", "--prompt", "-p", help="How the text begins; '-' reads it from standard input."
    ),
    samples: int = typer.Option(1, "--samples", "-n", help="How many texts."),
    max_tokens: int = typer.Option(200, "--max-tokens", help="Most tokens added to each."),
    temperature: float = typer.Option(0.8, help="Below 1 safer, above 1 wilder, 0 the likeliest."),
    top_k: int = typer.Option(0, help="Draw from this many likeliest tokens only; 0 from all."),
    top_p: float = typer.Option(0.95, help="Draw from the likeliest tokens up to this chance."),
    seed: int | None = typer.Option(None, help="The same seed draws the same text again."),
    averaged: bool = typer.Option(
        False, "--averaged", help="Use the moving average of the weights, if the run kept one."
    ),
) -> None:
    """Continue a prompt with a trained model; one text is shown as it comes."""
    import secrets

    from modelwright.checkpoint.bundle import load_bundle
    from modelwright.checkpoint.resume import newest_checkpoint
    from modelwright.generation.config import SamplingConfig
    from modelwright.generation.engine import generate as generate_texts
    from modelwright.generation.engine import stream
    from modelwright.runtime.device import choose_device

    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    if not model.is_dir():
        raise FileNotFoundError(f"there is no run folder {model}; train one first")
    folder, passed_over = model, []
    if not (model / "model.safetensors").exists():
        folder, passed_over = newest_checkpoint(model)
    for complaint in passed_over:
        print(f"note: passed over a damaged checkpoint: {complaint}", file=sys.stderr)
    bundle = load_bundle(folder, device=choose_device("auto"), averaged=averaged)
    if prompt == "-":
        prompt = sys.stdin.read()
    chosen_seed = secrets.randbits(31) if seed is None else seed
    began = time.perf_counter()
    if samples == 1:
        print(prompt, end="", flush=True)
        pieces = stream(
            bundle.model,
            bundle.tokenizer,
            prompt,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=chosen_seed,
        )
        n_tokens = 0
        for n_tokens, piece in enumerate(pieces, start=1):  # noqa: B007 - one piece a token
            print(piece, end="", flush=True)
        print()
    else:
        texts = generate_texts(
            bundle.model,
            bundle.tokenizer,
            prompt,
            n_samples=samples,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=chosen_seed,
        )
        n_tokens = sum(text.n_tokens for text in texts)
        print("\n\n---\n\n".join(text.text for text in texts))
    seconds = time.perf_counter() - began
    print(
        f"[{n_tokens} tokens, {n_tokens / seconds:.0f} tokens/s, seed {chosen_seed}]",
        file=sys.stderr,
    )
