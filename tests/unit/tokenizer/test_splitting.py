import pytest

from modelwright.tokenizer import reference
from modelwright.tokenizer.splitting import (
    PATTERNS,
    SPLIT_PATTERN,
    check_pattern,
    native_pattern,
    pattern_named,
    split,
    split_points,
)


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


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("cl100k", "I'LL say 12345!", ["I", "'LL", " say", " ", "123", "45", "!"]),
        ("cl100k", ".word\tword", [".word", "\tword"]),
        ("cl100k", "a!\n\nb", ["a", "!\n\n", "b"]),
        ("cl100k", "a \n b", ["a", " \n", " b"]),
        ("cl100k", "a\n  ", ["a", "\n  "]),  # white space that ends the text is one piece
        ("cl100k", "'\u017f", ["'\u017f"]),  # a long s is an s, whatever its case
        ("o200k", "HelloWorld's", ["Hello", "World's"]),
        ("o200k", "HTTPServer", ["HTTPServer"]),
        ("o200k", "a//\n b 1234", ["a", "//\n", " b", " ", "123", "4"]),
        ("o200k", "a\n  ", ["a", "\n", "  "]),
        ("o200k", "e\u0301a", ["e\u0301a"]),
        ("none", "a b\n1", ["a b\n1"]),
        ("none", "", []),
    ],
)
def test_each_named_pattern_cuts_in_its_own_way(name: str, text: str, pieces: list[str]):
    wanted = [piece.encode() for piece in pieces]
    assert reference.split(text, PATTERNS[name]) == wanted
    assert split(text, PATTERNS[name]) == wanted


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k"])
def test_digits_apart_makes_every_number_a_piece_and_changes_nothing_else(name: str):
    pattern = pattern_named(name, digits_apart=True)
    text = "abc 1234²½ x9, II Ⅳ\n\n"
    apart = reference.split(text, pattern)
    for digit in "1234²½9Ⅳ":
        assert digit.encode() in apart
    words = "Only words, here's \n none"
    assert reference.split(words, pattern) == reference.split(words, PATTERNS[name])
    assert split(text, pattern) == apart


def test_names_and_patterns_belong_together():
    for name, pattern in PATTERNS.items():
        assert pattern_named(name) == pattern
        assert native_pattern(pattern) == (name, False)
    for name in ("gpt2", "cl100k", "o200k"):
        assert native_pattern(pattern_named(name, digits_apart=True)) == (name, True)
    assert native_pattern(SPLIT_PATTERN + "|x") is None


def test_a_name_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="named 'gpt4'.* one of gpt2, cl100k, llama3, o200k, none"):
        pattern_named("gpt4")
    with pytest.raises(ValueError, match="digits_apart is on, but .* 'none' does not cut at"):
        pattern_named("none", digits_apart=True)


@pytest.mark.parametrize(
    ("pattern", "text", "pieces"),
    [
        (r"\p{L}+", "ab1 2cd", ["ab", "1 2", "cd"]),  # what stands between is a piece too
        (r"\d", "a12", ["a", "1", "2"]),
        (r"x*", "axb", ["a", "x", "b"]),
        (r"(?=b)", "abab", ["a", "ba", "b"]),  # a match of nothing cuts
        (r"q", "", []),
        (r"q", "世界", ["世界"]),
        (r"界", "世界🙂é", ["世", "界", "🙂é"]),
    ],
)
def test_a_pattern_of_ones_own_is_followed(pattern: str, text: str, pieces: list[str]):
    wanted = [piece.encode() for piece in pieces]
    assert split(text, pattern) == split(text.encode(), pattern) == wanted
    assert reference.split(text, pattern) == wanted
    ends = split_points(text, pattern).tolist()
    assert ends == [sum(map(len, wanted[: i + 1])) for i in range(len(wanted))]


def test_bytes_outside_utf8_are_cut_by_a_pattern_of_ones_own():
    assert split(b"\xff\xffa\xc3 \xe2\x82", r"\p{L}+|\s") == [
        b"\xff\xff",
        b"a",
        b"\xc3",
        b" ",
        b"\xe2\x82",
    ]


def test_a_pattern_that_is_no_regular_expression_is_refused_with_the_place():
    for wrong in (lambda: check_pattern("(a"), lambda: split("a", "(a")):
        with pytest.raises(ValueError, match=r"'\(a' is not a regular expression: missing \) at"):
            wrong()
    check_pattern(PATTERNS["o200k"])


def test_other_types_are_refused_by_name_whatever_the_pattern():
    with pytest.raises(TypeError, match="a document is str or bytes, not bytearray"):
        split(bytearray(b"a"), "a")  # type: ignore[arg-type]
