"""One measurement of one tokenizer, ours or a peer's, in a process of its own.

`tokenizer.py` starts this file with a request in JSON and reads the last line that it prints.
Packages are imported where they are needed, so that a process holds those of one program only.
"""

import base64
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

END = "<|endoftext|>"
# OpenAI's own wording for GPT-2's vocabulary, the fastest that tiktoken has.
TIKTOKEN_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
)
RUSTBPE_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
END_ID = 50256

Request = dict[str, Any]
Outcome = dict[str, Any]

_N_REPEAT_PASSES = 3
_N_CALLS, _N_LOOPS = 1000, 15


@dataclass(frozen=True)
class Codec:
    """What the programs have in common, under one name each."""

    encode: Callable[[bytes], Any]  # the text of the special token is its id
    encode_document: Callable[[str], Any]
    decode: Callable[[Any], bytes]
    own_ids: Callable[[Any], Any]  # ids in the type that the program decodes fastest


def cut_at_document(data: bytes, megabytes: float | None) -> bytes:
    """The documents that end within the first `megabytes`; all of them for None."""
    if megabytes is None or len(data) <= megabytes * 1e6:
        return data
    line = f"{END}\n".encode()
    end = data.rfind(line, 0, int(megabytes * 1e6))
    if end < 0:
        raise ValueError(f"no document ends within the first {megabytes} MB; take more of them")
    return data[: end + len(line)]


def _codec_of_ours(folder: Path) -> Codec:
    from modelwright.tokenizer.tokenizer import Tokenizer

    ours = Tokenizer.load(folder / "gpt2.json")
    return Codec(
        encode=partial(ours.encode, allowed_special=[END]),
        encode_document=ours.encode,
        decode=ours.decode_bytes,
        own_ids=lambda ids: ids.astype("uint16"),
    )


def _codec_of_gigatoken(folder: Path) -> Codec:
    import gigatoken

    theirs = gigatoken.Tokenizer(str(folder / "gpt2.json"))
    return Codec(theirs.encode, theirs.encode, theirs.decode, lambda ids: ids.astype("uint32"))


def _codec_of_tiktoken(folder: Path) -> Codec:
    import tiktoken

    lines = (folder / "gpt2.tiktoken").read_text().splitlines()
    theirs = tiktoken.Encoding(
        "gpt2",
        pat_str=TIKTOKEN_PATTERN,
        mergeable_ranks={
            base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)
        },
        special_tokens={END: END_ID},
    )
    to_numpy = partial(theirs.encode_to_numpy, disallowed_special=())
    return Codec(
        encode=lambda data: to_numpy(data.decode(), allowed_special={END}),
        encode_document=to_numpy,
        decode=theirs.decode_bytes,
        own_ids=lambda ids: ids.tolist(),
    )


def _codec_of_tokenizers(folder: Path) -> Codec:
    import tokenizers

    theirs = tokenizers.Tokenizer.from_file(str(folder / "gpt2.json"))
    return Codec(
        encode=lambda data: theirs.encode(data.decode(), add_special_tokens=False).ids,
        encode_document=lambda document: theirs.encode(document, add_special_tokens=False).ids,
        decode=lambda ids: theirs.decode(ids, skip_special_tokens=False).encode(),
        own_ids=lambda ids: ids.tolist(),
    )


_CODECS: dict[str, Callable[[Path], Codec]] = {
    "ours": _codec_of_ours,
    "gigatoken": _codec_of_gigatoken,
    "tiktoken": _codec_of_tiktoken,
    "tokenizers": _codec_of_tokenizers,
}


def _codec(request: Request) -> Codec:
    return _CODECS[request["program"]](Path(request["folder"]))


def _text(request: Request) -> bytes:
    return cut_at_document(Path(request["path"]).read_bytes(), request.get("first_megabytes"))


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def _passes(call: Callable[[], Any]) -> tuple[Outcome, Any]:
    first, result = _seconds(call)
    repeats = []
    for _ in range(_N_REPEAT_PASSES):
        result = None  # given back before the clock runs, not while it does
        taken, result = _seconds(call)
        repeats.append(taken)
    return {"first": first, "repeat": statistics.median(repeats)}, result


def encoding(request: Request) -> Outcome:
    """A text as one bytes object, or its documents one by one."""
    import numpy as np

    codec, data = _codec(request), _text(request)
    if request.get("by_document"):
        documents = data.decode().split(END)
        outcome, parts = _passes(lambda: [codec.encode_document(text) for text in documents])
        # What stood between the documents goes back between them.
        end = np.array([END_ID])
        ids = np.concatenate([array for part in parts for array in (part, end)][:-1])
    else:
        outcome, ids = _passes(lambda: codec.encode(data))
    if request.get("save"):
        np.save(request["save"], ids)
    return outcome


def decoding(request: Request) -> Outcome:
    """The ids of a file, all at once."""
    import numpy as np

    codec, expected = _codec(request), _text(request)
    ids = codec.own_ids(np.load(request["ids"]))
    outcome, data = _passes(lambda: codec.decode(ids))
    assert data == expected, f"{request['program']} decoded to another text"
    return outcome


def latency(request: Request) -> Outcome:
    """One short text again and again."""
    encode, text = _codec(request).encode_document, request["text"]
    encode(text)
    taken = []
    for _ in range(_N_LOOPS):
        began = time.perf_counter()
        for _ in range(_N_CALLS):
            encode(text)
        taken.append((time.perf_counter() - began) / _N_CALLS)
    return {"call": statistics.median(taken)}


def splitting(request: Request) -> Outcome:
    """Our cutting of documents into pieces, the making of a bytes object for each included."""
    from modelwright.tokenizer.splitting import split

    documents = _text(request).split(END.encode())

    def cut_all() -> None:
        for document in documents:
            split(document)

    return _passes(cut_all)[0]


def training(request: Request) -> Outcome:
    """From a file to a vocabulary."""
    path, vocab_size = Path(request["path"]), request["vocab_size"]
    train = _TRAINERS[request["program"]](path, vocab_size, request["n_threads"])
    taken, n_tokens = _seconds(train)
    return {"first": taken, "n_tokens": n_tokens}


def _train_ours(path: Path, vocab_size: int, n_threads: int) -> Callable[[], int]:
    from modelwright.tokenizer.training import train_tokenizer

    return lambda: train_tokenizer(path, vocab_size=vocab_size, n_threads=n_threads).n_vocab


def _train_gigatoken(path: Path, vocab_size: int, n_threads: int) -> Callable[[], int]:
    import gigatoken

    def train() -> int:
        source = gigatoken.TextFileSource([str(path)], separator=END.encode())
        return len(gigatoken.train_bpe(source, vocab_size, [END])[0])

    return train


def _train_rustbpe(path: Path, vocab_size: int, n_threads: int) -> Callable[[], int]:
    import rustbpe

    def documents() -> Iterator[str]:
        yield from path.read_text(encoding="utf-8").split(END)

    def train() -> int:
        learned = rustbpe.Tokenizer()  # type: ignore[attr-defined]  # compiled, without a stub
        learned.train_from_iterator(documents(), vocab_size - 1, pattern=RUSTBPE_PATTERN)
        return learned.vocab_size + 1  # it has no special tokens

    return train


def _train_tokenizers(path: Path, vocab_size: int, n_threads: int) -> Callable[[], int]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def train() -> int:
        learned = Tokenizer(models.BPE())
        learned.pre_tokenizer = pre_tokenizers.ByteLevel(  # type: ignore[misc]
            add_prefix_space=False
        )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learned.train([str(path)], trainer)
        return learned.get_vocab_size()

    return train


_TRAINERS: dict[str, Callable[[Path, int, int], Callable[[], int]]] = {
    "ours": _train_ours,
    "gigatoken": _train_gigatoken,
    "rustbpe": _train_rustbpe,
    "tokenizers": _train_tokenizers,
}


def shard(request: Request) -> Outcome:
    """From a text file to a file of 16-bit ids, an end-of-text id wherever the text has one."""
    write = _shard_of_ours if request["program"] == "ours" else _shard_of_gigatoken
    taken, _ = _seconds(write(request))
    return {"first": taken}


def _shard_of_ours(request: Request) -> Callable[[], None]:
    import concurrent.futures.thread  # noqa: F401  (its import is not timed)

    from modelwright.tokenizer.tokenizer import Tokenizer

    ours = Tokenizer.load(Path(request["folder"]) / "gpt2.json")
    path, n_threads = Path(request["path"]), request["n_threads"]

    def write() -> None:
        with Path(request["save"]).open("wb") as file:
            for ids in ours.encode_file(path, allowed_special=[END], n_threads=n_threads):
                file.write(ids.data)
            file.flush()

    return write


def _shard_of_gigatoken(request: Request) -> Callable[[], None]:
    # encode_files imports these on its first call; importing is not timed.
    import awkward  # noqa: F401
    import gigatoken
    import numpy as np
    import numpy.ma

    theirs = gigatoken.Tokenizer(str(Path(request["folder"]) / "gpt2.json"))

    def write() -> None:
        source = gigatoken.TextFileSource([request["path"]], separator=END.encode())
        documents = theirs.encode_files(source)
        ids: Any = documents.layout.content.data  # type: ignore[attr-defined]
        bounds = documents.layout.offsets.data.tolist()  # type: ignore[attr-defined]
        n_documents = len(bounds) - 1
        joined = np.empty(len(ids) + n_documents - 1, dtype=np.uint16)
        for i in range(n_documents):
            start, end = bounds[i], bounds[i + 1]
            joined[start + i : end + i] = ids[start:end]
            joined[end + i : end + i + 1] = END_ID  # none after the last, where the slice is empty
        with Path(request["save"]).open("wb") as file:
            joined.tofile(file)
            file.flush()

    return write


def _peak_memory_bytes() -> int:
    # ru_maxrss starts from what the parent held when it started this process; VmHWM does not.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


_WORK: dict[str, Callable[[Request], Outcome]] = {
    "training": training,
    "encoding": encoding,
    "decoding": decoding,
    "latency": latency,
    "shard": shard,
    "splitting": splitting,
}


def main() -> None:
    """Do what the request asks and print the outcome as the last line."""
    request = json.loads(sys.argv[1])
    outcome = _WORK[request["work"]](request)
    print("\n" + json.dumps(outcome | {"peak_memory": _peak_memory_bytes()}), flush=True)


if __name__ == "__main__":
    main()
