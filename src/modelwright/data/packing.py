"""Whole documents packed into rows, and how that compares with cutting the text anywhere.

`Packed` is a cut like `loader.Chunks`. A document of n tokens, the last of which is end-of-text,
gives n pairs of input and target: the targets are its tokens, and each one's input is the token
before it in the text, which for the first one is the end-of-text of the document before.
"""

from dataclasses import dataclass

import numpy as np
import torch

from modelwright import _native
from modelwright.data.loader import Batch, Rows, Samples, batch_on_cpu, open_reader
from modelwright.data.shards import TokenSequence


@dataclass(frozen=True, kw_only=True)
class PackingReport:
    """How well a cut fills its rows, and how many documents it divides.

    Attributes:
        n_tokens: targets of an epoch.
        n_padding: places of the rows that are no target.
        n_documents_cut: documents with targets in more than one row.
        n_pieces: documents, each counted once for every row that has targets of it.
    """

    n_rows: int
    n_tokens: int
    n_padding: int
    n_documents: int
    n_documents_cut: int
    n_pieces: int

    @property
    def padding_share(self) -> float:
        """Share of the rows' places that is padding."""
        return self.n_padding / (self.n_tokens + self.n_padding)

    @property
    def share_cut(self) -> float:
        """Share of the documents that is divided."""
        return self.n_documents_cut / self.n_documents

    @property
    def documents_per_row(self) -> float:
        """Of how many documents a row has something, on average."""
        return self.n_pieces / self.n_rows


class Packed:
    """Documents in rows of one context, by best-fit-decreasing.

    The longest document goes first, each into the row with the least room that takes it. A document
    longer than a row is first cut into full rows and a rest. So every token is a target exactly
    once, no row is too long, and only documents longer than a row are divided. Positions begin
    anew in each segment, and attention is meant to stay within one (`Batch.documents`); padding
    is a segment of its own.

    Who goes where is kept in memory: 12 bytes a segment and 8 a row. Finding it out takes at most
    32 bytes a document more, and well under a second for ten million documents.

    Source: Ding et al. 2024, "Fewer Truncations Improve Language Modeling", section 3.2. Theirs
    finds the row in a segment tree; ours, where equal lengths are many, in a set of bits.
    """

    def __init__(self, tokens: TokenSequence, context: int, end_of_text: int) -> None:
        """Args:
        end_of_text: the input before the very first token, and what stands in padding.

        Raises:
            ValueError: if there are no tokens.
        """
        if not len(tokens):
            raise ValueError(
                "the text has 0 tokens, so there is nothing to pack; choose a longer one"
            )
        document_starts = tokens.document_starts
        assert document_starts[0] == 0 and document_starts[-1] == len(tokens)
        self.tokens = tokens
        self.context = context
        self.end_of_text = end_of_text
        self.segment_starts, self.segment_lengths, self.row_offsets = _native.pack(
            document_starts, context
        )
        self.id_dtype, self._reader = open_reader(tokens)

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    def rows(self, n_rows: int, *, pinned: bool = False) -> Rows:
        """Memory for a batch."""
        shape = n_rows, self.context
        return Rows(
            torch.empty(2, *shape, dtype=self.id_dtype, pin_memory=pinned),
            torch.empty(n_rows, 2, dtype=torch.int32, pin_memory=pinned),
            torch.empty(shape, dtype=torch.int32, pin_memory=pinned),
            torch.empty(shape, dtype=torch.int32, pin_memory=pinned),
        )

    def fill(self, samples: Samples, rows: Rows) -> None:
        """Write these samples into memory that `rows` gave for as many."""
        assert rows.positions is not None and rows.documents is not None
        n_filled = np.empty(len(samples), np.int32)
        self._reader.copy_packed(
            samples,
            self.segment_starts,
            self.segment_lengths,
            self.row_offsets,
            self.end_of_text,
            rows.tokens.numpy(),
            rows.positions.numpy(),
            rows.documents.numpy(),
            n_filled,
        )
        counted = rows.counted.numpy()
        counted[:, 0] = 0
        counted[:, 1] = n_filled

    def batch(self, samples: Samples) -> Batch:
        """These samples as a batch on the CPU."""
        rows = self.rows(len(samples))
        self.fill(samples, rows)
        return batch_on_cpu(rows, samples)

    def report(self) -> PackingReport:
        """How it came out."""
        lengths = np.diff(self.tokens.document_starts)
        n_rows, n_tokens = len(self), len(self.tokens)
        return PackingReport(
            n_rows=n_rows,
            n_tokens=n_tokens,
            n_padding=n_rows * self.context - n_tokens,
            n_documents=len(lengths),
            n_documents_cut=int((lengths > self.context).sum()),
            n_pieces=len(self.segment_starts),
        )


def report_contiguous(tokens: TokenSequence, context: int) -> PackingReport:
    """The same figures for the text cut anywhere, as `loader.Chunks` does.

    Token t is a target of row (t - 1) // context, and the very first token of none.
    """
    starts = tokens.document_starts
    first_rows = (np.maximum(starts[:-1], 1) - 1) // context
    last_rows = (starts[1:] - 2) // context
    n_pieces = np.maximum(last_rows - first_rows + 1, 0)
    n_tokens = len(tokens) - 1
    n_rows = -(-n_tokens // context)
    return PackingReport(
        n_rows=n_rows,
        n_tokens=n_tokens,
        n_padding=n_rows * context - n_tokens,
        n_documents=len(n_pieces),
        n_documents_cut=int((n_pieces > 1).sum()),
        n_pieces=int(n_pieces.sum()),
    )
