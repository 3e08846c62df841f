"""Token files made with Hugging Face's `datasets`: the usual way, to measure ours beside.

`data.py` starts this file with a request in JSON. The steps are those of the preparation scripts
that come with many small training programs: documents into a `Dataset`, a share of them aside for
validation, a `map` over processes that turns each into ids, and one file of 16-bit ids for each
side, filled part by part through a memory map.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer_peers import END, END_ID, TIKTOKEN_PATTERN

if TYPE_CHECKING:
    from datasets import Dataset

Request = dict[str, Any]
Batch = dict[str, list[Any]]

SPLIT_SEED = 1234
N_PARTS = 1024  # of a file, each of them in memory at once
LOADERS = {"jsonl": "json", "parquet": "parquet"}


def documents_of(paths: list[str]) -> Iterator[dict[str, str]]:
    """The documents of text files, without the separator's line."""
    for path in paths:
        for document in Path(path).read_bytes().decode().split(f"\n{END}\n"):
            if document:
                yield {"text": document}


def load(request: Request) -> "Dataset":
    """The corpus as a dataset with one column of text."""
    import datasets

    kind = request["format"]
    paths = [str(path) for path in sorted(Path(request["source"]).glob(f"*.{kind}"))]
    n_processes = min(request["n_processes"], len(paths))
    if kind == "txt":
        # The loader of text files makes lines, paragraphs or whole files of them.
        dataset = datasets.Dataset.from_generator(
            documents_of, gen_kwargs={"paths": paths}, num_proc=n_processes
        )
    else:
        dataset = datasets.load_dataset(
            LOADERS[kind], data_files=paths, split="train", num_proc=n_processes
        )
    assert isinstance(dataset, datasets.Dataset)
    return dataset


def with_tiktoken(dataset: Any, vocabulary: Path, n_processes: int) -> Any:
    """Ids with tiktoken, a document at a time."""
    import tiktoken
    import tiktoken.registry

    lines = (vocabulary / "gpt2.tiktoken").read_text().splitlines()
    encoding = tiktoken.Encoding(
        "gpt2",
        pat_str=TIKTOKEN_PATTERN,
        mergeable_ranks={
            base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)
        },
        special_tokens={END: END_ID},
    )
    # As `get_encoding` would: the processes of `map` then find it by its name.
    tiktoken.registry.ENCODINGS["gpt2"] = encoding

    def tokenize(example: dict[str, str]) -> dict[str, Any]:
        ids = encoding.encode_ordinary(example["text"])
        ids.append(END_ID)
        return {"ids": ids, "n_ids": len(ids)}

    return dataset.map(tokenize, remove_columns=["text"], num_proc=n_processes)


def with_tokenizers(dataset: Any, vocabulary: Path, n_processes: int) -> Any:
    """Ids with tokenizers, a batch of documents at a time, each process on one thread."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary / "gpt2.json"))

    def tokenize(batch: Batch) -> Batch:
        # Like encode_batch, without working out where in the text each token stands.
        found = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        ids = [[*encoding.ids, END_ID] for encoding in found]
        return {"ids": ids, "n_ids": [len(each) for each in ids]}

    return dataset.map(tokenize, batched=True, remove_columns=["text"], num_proc=n_processes)


def write(dataset: Any, path: Path) -> None:
    """All ids of a side, one document after the other, into one file."""
    import numpy as np

    # In newer versions of datasets a column is read row by row unless it is sliced.
    n_ids = int(np.sum(dataset["n_ids"][:], dtype=np.int64))
    ids = np.memmap(path, dtype=np.uint16, mode="w+", shape=(n_ids,))
    n_parts = min(N_PARTS, len(dataset))
    at = 0
    for i in range(n_parts):
        part = dataset.shard(num_shards=n_parts, index=i, contiguous=True).with_format("numpy")
        joined = np.concatenate(part["ids"][:])
        ids[at : at + len(joined)] = joined
        at += len(joined)
    assert at == n_ids
    ids.flush()


TOKENIZE: dict[str, Callable[[Any, Path, int], Any]] = {
    "tiktoken": with_tiktoken,
    "tokenizers": with_tokenizers,
}


def import_only(program: str) -> None:
    """Import what building imports; how long that takes is measured by itself."""
    import datasets  # noqa: F401
    import numpy  # noqa: F401

    if program == "tiktoken":
        import tiktoken  # noqa: F401
    else:
        import tokenizers  # noqa: F401


def main() -> None:
    """Do what the request asks."""
    request: Request = json.loads(sys.argv[1])
    if request.get("import_only"):
        import_only(request["program"])
        return
    out = Path(request["out"])
    out.mkdir()
    dataset = load(request).train_test_split(
        test_size=request["validation_fraction"], seed=SPLIT_SEED, shuffle=True
    )
    dataset["validation"] = dataset.pop("test")
    tokenize = TOKENIZE[request["program"]]
    tokenized = tokenize(dataset, Path(request["vocabulary"]), request["n_processes"])
    for side, rows in tokenized.items():
        write(rows, out / f"{side}.bin")


if __name__ == "__main__":
    main()
