"""Whatever the documents and the window, each position mixes what it sees and nothing else."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelwright.model.attention import Visibility, make_attend
from modelwright.model.config import AttentionKind

kinds: list[AttentionKind] = ["plain", "math", "flash"]


@st.composite
def rows(draw: st.DrawFn) -> Tensor:
    """Numbers of the documents of a few rows; the same one may come again."""
    n_tokens = draw(st.integers(1, 12))
    row = st.lists(st.integers(0, 3), min_size=n_tokens, max_size=n_tokens)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=3)))


@settings(max_examples=60, deadline=None)
@given(
    documents=rows(),
    is_packed=st.booleans(),
    window=st.none() | st.integers(1, 14),
    kind=st.sampled_from(kinds),
    n_shared=st.integers(1, 3),
)
def test_each_position_mixes_what_it_sees(
    documents: Tensor, is_packed: bool, window: int | None, kind: AttentionKind, n_shared: int
):
    n_rows, n_tokens = documents.shape
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(n_rows, n_heads, n_tokens, 4, generator=generator, dtype=torch.float64)
        for n_heads in (2 * n_shared, 2, 2)
    )
    visible = Visibility(window)(n_tokens, documents if is_packed else None, torch.device("cpu"))
    mixed = make_attend(kind)(queries, keys, values, visible, 0.0)
    for row in range(n_rows):
        for here in range(n_tokens):
            seen = [
                there
                for there in range(here + 1)
                if (window is None or here - there < window)
                and (not is_packed or documents[row, there] == documents[row, here])
            ]
            for head in range(2 * n_shared):
                shared = head // n_shared
                scores = keys[row, shared, seen] @ queries[row, head, here] / 2  # sqrt(4)
                expected = scores.softmax(0) @ values[row, shared, seen]
                assert torch.allclose(mixed[row, head, here], expected, rtol=1e-12, atol=1e-14)
