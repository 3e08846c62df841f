"""`modelwright tokenizer import` and `export`: vocabularies from and for other programs."""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from modelwright.tokenizer.vocabulary import Vocabulary

_hub_prefix = "hub:"


class Format(StrEnum):
    """What `export` can write."""

    tiktoken = "tiktoken"
    vocab_merges = "vocab-merges"
    huggingface = "huggingface"


def import_(
    source: str | None = typer.Argument(
        None,
        help="A tokenizer.json, a .tiktoken file, a folder with vocab.json and merges.txt, or "
        "hub:OWNER/NAME.",
    ),
    out: Path = typer.Option(Path("tokenizer.json"), "--out", help="Where the tokenizer goes."),
    vocab: Path | None = typer.Option(None, "--vocab", help="A vocab.json, instead of SOURCE."),
    merges: Path | None = typer.Option(None, "--merges", help="The merges.txt that belongs to it."),
    pattern: str | None = typer.Option(
        None, "--pattern", help="How text is cut: gpt2, cl100k, llama3, o200k, none, or a regex."
    ),
    special: list[str] = typer.Option(
        [], "--special", help="A special token, NAME or NAME=ID; may be repeated."
    ),
    drop_template: bool = typer.Option(
        False, "--drop-template", help="Leave out tokens that the file puts around every text."
    ),
    force: bool = typer.Option(False, "--force", help="Write over a tokenizer that is there."),
) -> None:
    """Read the vocabulary of another program and write it as a tokenizer.json."""
    from modelwright.runtime.files import require_writable
    from modelwright.tokenizer.tokenizer import Tokenizer

    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; choose another --out, or add --force")
    require_writable(out.parent)
    read = _reader(source, vocab, merges)
    imported = Tokenizer(read(pattern, special, drop_template))
    out.parent.mkdir(parents=True, exist_ok=True)
    imported.save(out)
    print(f"{out}: {imported.n_vocab:,} tokens, fingerprint {imported.fingerprint[:16]}")


def export(
    tokenizer: Path = typer.Argument(..., help="A tokenizer.json."),
    format: Format = typer.Option(..., "--format", help="What to write."),
    out: Path = typer.Option(..., "--out", help="A file for tiktoken, a folder for the others."),
    force: bool = typer.Option(False, "--force", help="Write over files that are there."),
) -> None:
    """Write a tokenizer in the format of another program."""
    from modelwright.runtime.files import require_writable
    from modelwright.tokenizer.formats import write_huggingface_folder, write_vocab_and_merges
    from modelwright.tokenizer.rank_files import write_tiktoken
    from modelwright.tokenizer.tokenizer import Tokenizer

    writers = {
        Format.tiktoken: (write_tiktoken, ()),
        Format.vocab_merges: (write_vocab_and_merges, ("vocab.json", "merges.txt")),
        Format.huggingface: (
            write_huggingface_folder,
            ("tokenizer.json", "tokenizer_config.json"),
        ),
    }
    write, names = writers[format]
    for path in [out / name for name in names] or [out]:
        if path.exists() and not force:
            raise FileExistsError(f"{path} is there already; choose another --out, or add --force")
    if names and out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file, but {format.value} needs a folder for --out")
    if not names and out.is_dir():
        raise IsADirectoryError(f"{out} is a folder, but {format.value} needs a file for --out")
    vocabulary = Tokenizer.load(tokenizer).vocabulary
    folder = out if names else out.parent
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(vocabulary, out)
    print(f"{out}: {len(vocabulary.tokens):,} tokens")
    if format is Format.tiktoken:
        told = " ".join(
            f"{text}={token_id}" for text, token_id in vocabulary.special_tokens.items()
        )
        print(f"not in the file: the pattern, and the special tokens {told or '(none)'}")


Reader = Callable[[str | None, Sequence[str], bool], "Vocabulary"]


def _reader(source: str | None, vocab: Path | None, merges: Path | None) -> Reader:
    """Choose how to read what the command line names."""
    if (vocab is None) != (merges is None):
        raise ValueError("--vocab and --merges belong together; give both, or a SOURCE")
    if vocab is not None and merges is not None:
        if source is not None:
            raise ValueError(f"SOURCE is {source}, but --vocab is given too; leave one of them out")
        return _pair_reader(vocab, merges)
    if source is None:
        raise ValueError("there is nothing to import; give a SOURCE, or --vocab with --merges")
    if source.startswith(_hub_prefix):
        return _hub_reader(source.removeprefix(_hub_prefix))
    path = Path(source)
    if path.is_dir():
        return _folder_reader(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no tokenizer at {source}; give a file or a folder")
    return _json_reader(path) if path.suffix == ".json" else _rank_reader(path)


def _folder_reader(folder: Path) -> Reader:
    if (folder / "tokenizer.json").is_file():
        return _json_reader(folder / "tokenizer.json")
    found = [sorted(folder.glob(name)) for name in ("*vocab.json", "*merges.txt")]
    if [len(paths) for paths in found] != [1, 1]:
        names = ", ".join(path.name for paths in found for path in paths) or "neither"
        raise ValueError(
            f"{folder} should hold a tokenizer.json, or one vocab.json and one merges.txt; it has "
            f"{names}; name the files with --vocab and --merges"
        )
    return _pair_reader(found[0][0], found[1][0])


def _json_reader(path: Path) -> Reader:
    def read(pattern: str | None, special: Sequence[str], drop_template: bool) -> "Vocabulary":
        from modelwright.tokenizer.formats import parse_tokenizer_json

        _refuse_for(f"{path}", pattern=pattern, special=special)
        try:
            return parse_tokenizer_json(path.read_bytes(), drop_template=drop_template)
        except ValueError as error:
            message = str(error).replace("drop_template is on", "--drop-template is given")
            raise ValueError(f"{path}: {message}") from None

    return read


def _hub_reader(repo_id: str) -> Reader:
    def read(pattern: str | None, special: Sequence[str], drop_template: bool) -> "Vocabulary":
        from modelwright.tokenizer.hub import load_from_hub

        _refuse_for(f"{_hub_prefix}{repo_id}", pattern=None, special=special)
        return load_from_hub(
            repo_id, pattern=_pattern(pattern or "gpt2"), drop_template=drop_template
        )

    return read


def _pair_reader(vocab: Path, merges: Path) -> Reader:
    def read(pattern: str | None, special: Sequence[str], drop_template: bool) -> "Vocabulary":
        from modelwright.tokenizer.formats import read_vocab_and_merges
        from modelwright.tokenizer.vocabulary import END_OF_TEXT

        wanted = _special_tokens(special)
        read = read_vocab_and_merges(
            vocab,
            merges,
            special_tokens=tuple(wanted) or (END_OF_TEXT,),
            pattern=_pattern(pattern or "gpt2"),
        )
        for text, token_id in wanted.items():
            if text not in read.special_tokens or token_id not in (None, read.special_tokens[text]):
                listed = read.special_tokens.get(text, "no id")
                raise ValueError(
                    f"--special {text} asks for id {token_id}, but {vocab} gives it {listed}"
                    if token_id is not None
                    else f"--special names {text!r}, which is not in {vocab}"
                )
        return read

    return read


def _rank_reader(path: Path) -> Reader:
    def read(pattern: str | None, special: Sequence[str], drop_template: bool) -> "Vocabulary":
        from modelwright.tokenizer.rank_files import read_tiktoken

        if pattern is None:
            raise ValueError(
                f"{path} does not say how text is cut; add --pattern, for instance "
                "--pattern cl100k for GPT-4's"
            )
        return read_tiktoken(
            path, pattern=_pattern(pattern), special_tokens=_special_tokens(special)
        )

    return read


def _refuse_for(source: str, *, pattern: str | None, special: Sequence[str]) -> None:
    """Raise for what the source says itself, since it would go unheeded."""
    for option, given in (("--pattern", pattern), ("--special", special)):
        if given:
            raise ValueError(
                f"{source} says itself what {option} would; leave {option} out, or change the file"
            )


def _pattern(text: str) -> str:
    """Take a plain word for a name, and anything else for a regular expression."""
    from modelwright.tokenizer.splitting import check_pattern, pattern_named

    if re.fullmatch(r"[\w-]+", text):
        return pattern_named(text)
    check_pattern(text)
    return text


def _special_tokens(entries: Sequence[str]) -> dict[str, int | None]:
    """Read NAME=ID, or NAME alone."""
    special_tokens: dict[str, int | None] = {}
    for entry in entries:
        with_id = re.fullmatch(r"(.+)=(\d+)", entry, re.DOTALL)
        name = with_id[1] if with_id else entry
        if name in special_tokens:
            raise ValueError(f"--special names {name!r} twice; name it once")
        special_tokens[name] = int(with_id[2]) if with_id else None
    return special_tokens
