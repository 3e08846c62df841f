import pytest

from modelwright.tokenizer.splitting import split


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("Hello world", ["Hello", " world"]),
        ("we'll say it's I'd've", ["we", "'ll", " say", " it", "'s", " I", "'d", "'ve"]),
        ("WE'LL 's", ["WE", "'", "LL", " '", "s"]),
        ("''s", ["''", "s"]),
        ("in 1984, 42nd", ["in", " 1984", ",", " 42", "nd"]),
        ("a  b", ["a", " ", " b"]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a \nb", ["a", " ", "\n", "b"]),
        ("a\n b", ["a", "\n", " b"]),
        ("a  ", ["a", "  "]),
        ("a ", ["a", " "]),
        (" ", [" "]),
        ("x\u3000\u3000y", ["x", "\u3000", "\u3000", "y"]),
        ("né²⅔ ½", ["né", "²⅔", " ½"]),
        ("hi🙂🙂there", ["hi", "🙂🙂", "there"]),
        ("<|endoftext|>", ["<|", "endoftext", "|>"]),
    ],
)
def test_text_is_cut_where_the_pattern_says(text: str, pieces: list[str]):
    assert split(text) == [piece.encode() for piece in pieces]


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"a\xffb", [b"a", b"\xff", b"b"]),  # never part of UTF-8
        (b"a\xc3", [b"a", b"\xc3"]),  # a lead byte at the end
        (b"\xc3\xc3\xa9", [b"\xc3", b"\xc3\xa9"]),  # a lead byte, then a whole letter
        (b"\xe2\x82z", [b"\xe2\x82", b"z"]),  # two bytes of a euro sign
        (b"!\xc0\xa0\xc1\xa1", [b"!\xc0\xa0\xc1\xa1"]),  # overlong forms of space and a
        (b"!\xe0\x81\x81", [b"!\xe0\x81\x81"]),  # an overlong A
        (b"!\xf0\x80\x81\x81", [b"!\xf0\x80\x81\x81"]),  # a longer one
        (b"!\xed\xa0\x80", [b"!\xed\xa0\x80"]),  # a surrogate
        (b"!\xf4\x90\x80\x80", [b"!\xf4\x90\x80\x80"]),  # above U+10FFFF
        (b"\xf0\x9f\x99 x", [b"\xf0\x9f\x99", b" x"]),  # three bytes of a face
        (b" \x80!", [b" \x80!"]),  # punctuation as any other
    ],
)
def test_a_byte_outside_utf8_is_one_punctuation_character(data: bytes, pieces: list[bytes]):
    assert split(data) == pieces


def test_bytes_and_str_are_cut_alike():
    text = "Grüße, 世界! 42 "
    assert split(text.encode()) == split(text)


def test_other_types_are_refused_by_name():
    with pytest.raises(TypeError, match="a document is str or bytes, not bytearray"):
        split(bytearray(b"a"))  # type: ignore[arg-type]


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        split("a\ud800")
