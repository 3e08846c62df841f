"""However a file is divided, its documents are those of the whole."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwright.data.reading import Span, documents_in, without_separator_line
from modelwright.data.sources import local_file


def documents_of_the_whole(content: bytes, separator: bytes) -> list[bytes]:
    *whole, last = content.split(separator)
    found = [without_separator_line(text) for text in whole]
    last = without_separator_line(last, is_last=True)
    return [text for text in found if text] + ([last] if last.strip() else [])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    separator=st.sampled_from([b"|", b"\n\n", b"aa", b"aba", b"abab", b"<|e|>"]),
    pieces=st.lists(st.sampled_from([b"|", b"\n", b"a", b"b", b"<|e|>", b"\r\n", b"\xff"])),
    size=st.integers(1, 9),
)
def test_spans_of_text_give_each_document_once(
    tmp_path: Path, separator: bytes, pieces: list[bytes], size: int
):
    content = b"".join(pieces)
    if not content:
        return
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    file = local_file(path, separator.decode())
    spans = [Span(0, at, min(at + size, len(content)), size) for at in range(0, len(content), size)]
    found = [text for span in spans for batch in documents_in(file, span) for text in batch]
    assert found == documents_of_the_whole(content, separator)


@pytest.mark.parametrize("size", range(1, 60))
def test_spans_of_json_lines_give_each_line_once(tmp_path: Path, size: int):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two"}\n{"text": "three"}')
    file = local_file(path, "")
    spans = [Span(0, at, min(at + size, file.n_bytes), size) for at in range(0, file.n_bytes, size)]
    found = [text for span in spans for batch in documents_in(file, span) for text in batch]
    assert found == [b"one", b"two", b"three"]
