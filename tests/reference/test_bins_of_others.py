"""Files written as other programs write them, and read as they read them: by numpy alone."""

from pathlib import Path

import numpy as np
import tiktoken

import small
from modelwright.data.bins import export_bins, import_bins
from modelwright.data.inspection import open_folder
from modelwright.tokenizer.tokenizer import Tokenizer

texts = small.texts(30)
tokenizer = small.tokenizer()
encoding = tiktoken.Encoding(
    "small",
    pat_str=tokenizer.vocabulary.pattern,
    mergeable_ranks={
        token: i
        for i, token in enumerate(tokenizer.vocabulary.tokens)
        if i not in tokenizer.special_tokens.values()
    },
    special_tokens=dict(tokenizer.special_tokens),
)
train, validation = texts[:24], texts[24:]


def as_nanogpt_prepares(texts: list[str], path: Path) -> None:
    """Each text, then end of text, into a memory map of uint16."""
    ids = [[*encoding.encode_ordinary(text), encoding.eot_token] for text in texts]
    array = np.memmap(path, dtype=np.uint16, mode="w+", shape=(sum(map(len, ids)),))
    array[:] = np.concatenate(ids)
    array.flush()


def as_llmc_prepares(texts: list[str], folder: Path, shard_size: int) -> None:
    """End of text, then each text, cut into files wherever one is full; the first is validation."""
    ids = np.concatenate([[encoding.eot_token, *encoding.encode_ordinary(text)] for text in texts])
    for index, start in enumerate(range(0, len(ids), shard_size)):
        part = ids[start : start + shard_size].astype(np.uint16)
        header = np.zeros(256, dtype=np.int32)
        header[:3] = 20240520, 1, len(part)
        name = f"x_{'val' if index == 0 else 'train'}_{index:06}.bin"
        (folder / name).write_bytes(header.tobytes() + part.tobytes())


def as_llmc_reads(path: Path) -> np.ndarray:
    """Check the header and the size as its loader does, and return the tokens."""
    header = np.fromfile(path, dtype=np.int32, count=256)
    assert header[0] == 20240520
    assert header[1] == 1
    assert not header[3:].any()
    assert path.stat().st_size == 256 * 4 + int(header[2]) * 2
    return np.fromfile(path, dtype=np.uint16, offset=1024)


def texts_in(folder: Path, side: str) -> list[str]:
    opened = open_folder(folder)
    found = []
    for shard in opened.shards[side]:
        for start, end in zip(shard.document_starts, shard.document_starts[1:], strict=False):
            found.append(opened.tokenizer.decode(shard.tokens[int(start) : int(end) - 1]))
    return found


def test_nanogpts_files_hold_the_texts_they_were_made_of(tmp_path: Path):
    as_nanogpt_prepares(train, tmp_path / "train.bin")
    as_nanogpt_prepares(validation, tmp_path / "val.bin")
    import_bins([tmp_path / "train.bin"], [tmp_path / "val.bin"], tokenizer, tmp_path / "data")
    assert texts_in(tmp_path / "data", "train") == train
    assert texts_in(tmp_path / "data", "validation") == validation


def test_llmcs_files_hold_the_texts_they_were_made_of(tmp_path: Path):
    as_llmc_prepares(texts, tmp_path, shard_size=1000)
    files = sorted(tmp_path.glob("x_train_*.bin"))
    assert len(files) > 2
    import_bins(files, [tmp_path / "x_val_000000.bin"], tokenizer, tmp_path / "data")
    before, after = (texts_in(tmp_path / "data", side) for side in ("validation", "train"))
    # A file is cut by its size, so the last text of one side goes on in the first of the other.
    assert [*before[:-1], before[-1] + after[0], *after[1:]] == texts


def built(folder: Path) -> Path:
    as_nanogpt_prepares(train, folder / "train.bin")
    as_nanogpt_prepares(validation, folder / "val.bin")
    import_bins(
        [folder / "train.bin"], [folder / "val.bin"], tokenizer, folder / "data", shard_tokens=2000
    )
    return folder / "data"


def test_nanogpt_gets_the_file_it_would_have_written(tmp_path: Path):
    export_bins(built(tmp_path), tmp_path / "out", "nanogpt")
    for name in ("train.bin", "val.bin"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_llmc_reads_what_was_exported_for_it(tmp_path: Path):
    export_bins(built(tmp_path), tmp_path / "out", "llmc")
    files = sorted((tmp_path / "out").glob("train_*.bin"))
    assert len(files) > 2
    read = np.concatenate([as_llmc_reads(path) for path in files])
    wanted = np.concatenate(
        [[encoding.eot_token, *encoding.encode_ordinary(text)] for text in train]
    )
    assert np.array_equal(read, wanted)
    assert all(as_llmc_reads(path)[0] == encoding.eot_token for path in files)


def test_a_vocabulary_read_back_makes_the_same_ids(tmp_path: Path):
    folder = built(tmp_path)
    assert Tokenizer.load(folder / "tokenizer.json").fingerprint == tokenizer.fingerprint
