"""Packing loses nothing, doubles nothing, divides no document that fits, and is the plain twin's."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright import _native
from modelwright.data import reference
from modelwright.data.loader import Chunks, not_a_target
from modelwright.data.packing import Packed, report_contiguous
from modelwright.data.shards import Shard, TokenSequence

END = 0
documents = st.lists(st.integers(1, 40), min_size=1, max_size=60)
# Longer and shorter than a row, equal ones often, and rows of several words of the set of bits.
lengths_and_context = st.one_of(
    st.tuples(st.lists(st.integers(0, 25), max_size=80), st.integers(1, 12)),
    st.tuples(st.lists(st.integers(0, 9000), max_size=60), st.integers(1, 8300)),
    st.tuples(st.lists(st.sampled_from([1, 2, 63, 64, 65, 200, 4095, 4097]), max_size=80), st.sampled_from([64, 128, 4096, 8192])),
)  # fmt: skip


def sequence_of(lengths: list[int], n_shards: int = 1, dtype: type = np.uint16) -> TokenSequence:
    """Documents of so many different tokens, the last one END, in shards."""
    shards, first = [], 1
    for part in np.array_split(np.array(lengths, np.int64), n_shards):
        starts = np.concatenate([[0], np.cumsum(part)]).astype(np.int64)
        tokens = np.arange(first, first + starts[-1], dtype=dtype)
        first += int(starts[-1])
        tokens[starts[1:] - 1] = END
        shards.append(Shard(None, tokens, starts.astype(np.uint64), ""))  # type: ignore[arg-type]
    return TokenSequence(shards)


def rows_of(
    starts: np.ndarray, lengths: np.ndarray, offsets: np.ndarray
) -> list[list[tuple[int, int]]]:
    segments = list(zip(starts.tolist(), lengths.tolist(), strict=True))
    return [segments[first:last] for first, last in pairwise(offsets.tolist())]


@settings(max_examples=300)
@given(lengths_and_context)
def test_documents_are_packed_as_the_twin_does(drawn: tuple[list[int], int]):
    lengths, context = drawn
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = rows_of(*_native.pack(starts, context))
    assert rows == reference.pack(starts.tolist(), context)


@given(documents, st.integers(1, 30), st.integers(1, 4), st.sampled_from([np.uint16, np.uint32]))
def test_rows_are_filled_as_the_twin_does(
    lengths: list[int], context: int, n_shards: int, dtype: type
):
    tokens = sequence_of(lengths, n_shards, dtype)
    packed = Packed(tokens, context, END)
    batch = packed.batch(np.arange(len(packed)))
    assert batch.positions is not None and batch.documents is not None
    whole = tokens.read(0, len(tokens))
    rows = rows_of(packed.segment_starts, packed.segment_lengths, packed.row_offsets)
    for row, segments in enumerate(rows):
        inputs, targets, positions, documents, n_filled = reference.packed_row(
            whole, segments, context, END
        )
        targets[n_filled:] = [not_a_target] * (context - n_filled)
        assert batch.inputs[row].tolist() == inputs
        assert batch.targets[row].tolist() == targets
        assert batch.positions[row].tolist() == positions
        assert batch.documents[row].tolist() == documents


@given(documents, st.integers(1, 30), st.integers(1, 4))
def test_every_token_is_a_target_exactly_once(lengths: list[int], context: int, n_shards: int):
    tokens = sequence_of(lengths, n_shards)
    packed = Packed(tokens, context, END)
    targets = packed.batch(np.arange(len(packed))).targets
    counted = targets[targets != not_a_target].tolist()
    assert sorted(counted) == sorted(tokens.read(0, len(tokens)).tolist())


@given(documents, st.integers(1, 30), st.integers(1, 4))
def test_a_segment_is_a_stretch_of_one_document(lengths: list[int], context: int, n_shards: int):
    packed = Packed(sequence_of(lengths, n_shards), context, END)
    batch = packed.batch(np.arange(len(packed)))
    assert batch.positions is not None and batch.documents is not None
    n_whole = 0
    for row in range(len(packed)):
        for number in batch.documents[row].unique():
            of_segment = batch.documents[row] == number
            inputs, targets = batch.inputs[row][of_segment], batch.targets[row][of_segment]
            assert torch.equal(
                batch.positions[row][of_segment], torch.arange(len(inputs), dtype=torch.int32)
            )
            if targets[0] == not_a_target:  # padding, which is the last
                assert set(targets.tolist()) == {not_a_target}
                assert set(inputs.tolist()) == {END}
                assert number == batch.documents[row].max()
                continue
            assert torch.equal(inputs[1:], targets[:-1])
            assert END not in targets[:-1]
            n_whole += inputs[0] == END and targets[-1] == END
    assert n_whole == sum(length <= context for length in lengths)


@given(documents, st.integers(1, 30), st.integers(1, 4))
def test_the_shards_do_not_matter(lengths: list[int], context: int, n_shards: int):
    one, several = (
        Packed(sequence_of(lengths, n), context, END) for n in (1, min(n_shards, len(lengths)))
    )
    assert len(one) == len(several)
    batches = [packed.batch(np.arange(len(one))) for packed in (one, several)]
    for ours, theirs in zip(batches[0].tensors(), batches[1].tensors(), strict=True):
        assert torch.equal(ours, theirs)


@given(documents, st.integers(1, 30))
def test_few_rows_are_left_with_room(lengths: list[int], context: int):
    packed = Packed(sequence_of(lengths), context, END)
    # Two rows that are both at most half full would have become one.
    n_filled = [
        sum(length for _, length in row)
        for row in rows_of(packed.segment_starts, packed.segment_lengths, packed.row_offsets)
    ]
    assert max(n_filled) <= context
    assert sum(2 * filled <= context for filled in n_filled) <= 1


@given(documents, st.integers(1, 30), st.integers(1, 4))
def test_the_report_of_packing_counts_what_the_batches_hold(
    lengths: list[int], context: int, n_shards: int
):
    packed = Packed(sequence_of(lengths, n_shards), context, END)
    report = packed.report()
    batch = packed.batch(np.arange(len(packed)))
    assert report.n_rows == len(batch.targets)
    assert report.n_padding == int((batch.targets == not_a_target).sum())
    assert report.n_tokens == int((batch.targets != not_a_target).sum())
    assert report.n_documents == len(lengths)
    assert report.n_documents_cut == sum(length > context for length in lengths)
    assert report.n_pieces == sum(-(-length // context) for length in lengths)


@given(documents, st.integers(1, 30), st.integers(1, 4))
def test_the_report_of_the_contiguous_cut_counts_what_the_chunks_hold(
    lengths: list[int], context: int, n_shards: int
):
    tokens = sequence_of(lengths, n_shards)
    if len(tokens) < 2:
        return
    chunks = Chunks(tokens, min(context, len(tokens) - 1))
    report = report_contiguous(tokens, chunks.context)
    # A target's place in the text is known from the input before it, which no other one has.
    targets = chunks.batch(np.arange(len(chunks))).targets
    document_of_place = np.repeat(np.arange(len(lengths)), lengths)
    starts = [min(i * chunks.context, len(tokens) - chunks.context - 1) for i in range(len(chunks))]
    rows_of_document: dict[int, set[int]] = {}
    for row, start in enumerate(starts):
        for column in range(chunks.context):
            if targets[row, column] != not_a_target:
                document = int(document_of_place[start + column + 1])
                rows_of_document.setdefault(document, set()).add(row)
    n_targets = int((targets != not_a_target).sum())
    assert (report.n_rows, report.n_tokens) == (len(chunks), n_targets)
    assert report.n_padding == targets.numel() - n_targets
    assert report.n_documents == len(lengths)
    assert report.n_documents_cut == sum(len(rows) > 1 for rows in rows_of_document.values())
    assert report.n_pieces == sum(len(rows) for rows in rows_of_document.values())


def test_shares_are_of_what_they_say():
    report = Packed(sequence_of([5, 3, 2, 9]), 6, END).report()
    # Rows of six: 6 of the nine, then 5, 3 + 3, 2.
    assert (report.n_rows, report.n_padding, report.n_documents_cut) == (4, 24 - 19, 1)
    assert report.padding_share == 5 / 24
    assert report.share_cut == 1 / 4
    assert report.documents_per_row == 5 / 4


def test_packing_divides_no_document_that_fits_and_costs_little_room():
    lengths = np.random.default_rng(0).integers(1, 150, 2000).tolist()
    tokens = sequence_of(lengths, 3, np.uint32)
    packed, contiguous = Packed(tokens, 200, END).report(), report_contiguous(tokens, 200)
    assert packed.n_documents_cut == 0
    assert contiguous.share_cut > 0.3
    assert packed.padding_share < 0.001


def test_a_text_without_tokens_cannot_be_packed():
    with pytest.raises(ValueError, match="the text has 0 tokens"):
        Packed(TokenSequence([]), 5, END)


@pytest.mark.parametrize(
    ("starts", "context", "message"),
    [([0, 5, 3], 4, "have to ascend"), ([0, 5], 0, "at least one place")],
)
def test_what_only_a_bug_can_ask_of_the_core_is_refused(starts: list, context: int, message: str):
    with pytest.raises(ValueError, match=message):
        _native.pack(np.array(starts), context)


def test_the_core_reads_nothing_beyond_the_tokens():
    reader = _native.TokenRows([np.arange(10, dtype=np.uint16)])
    rows = np.empty((1, 4), np.uint16)
    for start in (-1, 7, 2**62):
        with pytest.raises(IndexError, match="beyond the tokens"):
            reader.copy(np.array([start]), rows)
    reader.copy(np.array([6]), rows)
    assert rows.tolist() == [[6, 7, 8, 9]]
    packed = Packed(sequence_of([3, 4]), 5, END)
    for row in (-1, 2):
        with pytest.raises(IndexError, match="no such row"):
            packed.batch(np.array([row]))


def test_the_core_takes_ids_of_one_format_only():
    with pytest.raises(TypeError, match="uint16 or, all of them, of uint32"):
        _native.TokenRows([np.arange(3, dtype=np.uint16), np.arange(3, dtype=np.uint32)])
