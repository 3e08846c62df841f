"""`modelwright tokenizer`: train one on a text, or cut a text with one."""

import sys
from pathlib import Path

import typer

from modelwright.cli.display import progress_bars

app = typer.Typer(help="Train a byte-level BPE tokenizer, or use one.", no_args_is_help=True)


@app.command("train")
def train(
    source: str = typer.Argument(..., help="A text file, a folder of them, or 'stories'."),
    out: Path = typer.Option(Path("tokenizer.json"), "--out", help="Where the tokenizer goes."),
    vocab_size: int = typer.Option(4096, "--vocab-size", help="Tokens, special ones included."),
    separator: str = typer.Option("<|endoftext|>", help="What stands between two documents."),
    force: bool = typer.Option(False, "--force", help="Write over a tokenizer that is there."),
) -> None:
    """Train a tokenizer on a text and write it in Hugging Face's format."""
    from modelwright.data.building import DataConfig, tokenizer_progress
    from modelwright.data.sources import open_source
    from modelwright.runtime.files import require_writable
    from modelwright.tokenizer.config import TokenizerConfig
    from modelwright.tokenizer.training import TrainingProgress, train_tokenizer

    config = TokenizerConfig(vocab_size=vocab_size)
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; choose another --out, or add --force")
    require_writable(out.parent)
    stories = DataConfig()
    opened = open_source(
        source, separator=separator, seed=stories.stories_seed, n_bytes=stories.stories_bytes
    )
    with progress_bars() as bars:

        def tell(progress: TrainingProgress) -> None:
            bars(tokenizer_progress(progress, opened.n_bytes))

        trained = train_tokenizer(
            opened.documents(), vocab_size=config.vocab_size, on_progress=tell
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    trained.save(out)
    print(f"{out}: {trained.n_vocab:,} tokens, fingerprint {trained.fingerprint[:16]}")


@app.command("encode")
def encode(
    tokenizer: Path = typer.Argument(..., help="A tokenizer.json."),
    text: str | None = typer.Argument(None, help="The text; left out, standard input is read."),
    pieces: bool = typer.Option(False, "--pieces", help="Show the text of each token instead."),
) -> None:
    """Print the ids of a text, or with --pieces how it is cut."""
    from modelwright.tokenizer.tokenizer import Tokenizer

    loaded = Tokenizer.load(tokenizer)
    content = sys.stdin.buffer.read() if text is None else text.encode()
    ids = loaded.encode(content)
    if pieces:
        shown = (loaded.decode_bytes([token]) for token in ids)
        print("|".join(piece.decode("utf-8", "backslashreplace") for piece in shown))
    else:
        print(" ".join(str(token) for token in ids))
