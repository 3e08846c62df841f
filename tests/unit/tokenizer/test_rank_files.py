import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelwright.tokenizer.rank_files import read_tiktoken, write_tiktoken
from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

BYTES = [bytes([value]) for value in range(256)]
A, B, C = ord("a"), ord("b"), ord("c")


def rank_file(path: Path, ranks: Mapping[bytes, int]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def ranks_of(*longer: bytes) -> dict[bytes, int]:
    return {token: rank for rank, token in enumerate([*BYTES, *longer])}


def vocabulary_of(*merges: tuple[int, int]) -> Vocabulary:
    tokens = list(BYTES)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    tokens.append(END_OF_TEXT.encode())
    return Vocabulary(tuple(tokens), merges, {END_OF_TEXT: len(tokens) - 1})


def test_a_written_file_is_read_back(tmp_path: Path):
    vocabulary = replace(
        vocabulary_of((A, B), (256, C), (C, C), (257, 258)), pattern=PATTERNS["cl100k"]
    )
    path = tmp_path / "x.tiktoken"
    write_tiktoken(vocabulary, path)
    read = read_tiktoken(path, pattern=PATTERNS["cl100k"], special_tokens={END_OF_TEXT: None})
    assert read == vocabulary
    assert path.read_text().splitlines()[97] == "YQ== 97"


def test_the_merges_follow_from_the_ranks_and_not_from_the_order_of_lines(tmp_path: Path):
    ranks = ranks_of(b"bc", b"ab", b"abc", b"abcabc")
    mixed = dict(reversed(ranks.items()))
    vocabulary = read_tiktoken(rank_file(tmp_path / "x", mixed), pattern="")
    assert vocabulary.merges == ((B, C), (A, B), (A, 256), (258, 258))
    other_way = ranks_of(b"ab", b"bc", b"abc")
    vocabulary = read_tiktoken(rank_file(tmp_path / "y", other_way), pattern="")
    assert vocabulary.merges[-1] == (256, C)


def test_special_tokens_take_the_ids_they_are_given_or_the_next_ones(tmp_path: Path):
    path = rank_file(tmp_path / "x", ranks_of(b"ab"))
    given = read_tiktoken(path, pattern="", special_tokens={"<b>": None, "<a>": None})
    assert given.special_tokens == {"<b>": 257, "<a>": 258}
    assert not read_tiktoken(path, pattern="").special_tokens
    spread = read_tiktoken(path, pattern="", special_tokens={"<a>": 259, "<b>": None})
    assert spread.special_tokens == {
        "<|unused_257|>": 257,
        "<|unused_258|>": 258,
        "<a>": 259,
        "<b>": 260,
    }
    assert spread.tokens[257] == b"<|unused_257|>"


def test_a_special_token_may_be_listed_among_the_ranks(tmp_path: Path):
    ranks = {b"<s>": 0} | {token: rank + 1 for token, rank in ranks_of(b"ab").items()}
    path = rank_file(tmp_path / "x", ranks)
    for given in (None, 0):
        vocabulary = read_tiktoken(path, pattern="", special_tokens={"<s>": given})
        assert vocabulary.special_tokens == {"<s>": 0}
        assert vocabulary.merges == ((A + 1, B + 1),)
    with pytest.raises(ValueError, match="'<s>' is to have id 7, but the file gives it 0"):
        read_tiktoken(path, pattern="", special_tokens={"<s>": 7})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no token in it"),
        (b"YQ== 0\nnonsense\n", "line 2 is b'nonsense', but a line holds a token in base64"),
        (b"YQ== -1\n", "line 1 is b'YQ== -1'"),
        (b"Y!== 1\n", "line 1 is"),
        (b"YQ== 0\nYQ== 1\n", "line 2 gives token b'a' a second rank"),
        (b"YQ== 0\nYg== 0\n", "lines 1 and 2 both have rank 0"),
        (b"YQ== 0\nYg== 99999999999\n", "which leaves 99999999998 ids unused"),
    ],
)
def test_what_is_no_rank_file_is_refused_with_the_line(
    tmp_path: Path, content: bytes, message: str
):
    path = tmp_path / "bad.tiktoken"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.tiktoken: (the highest.*)?{message}"):
        read_tiktoken(path, pattern="")


def test_a_token_that_no_merge_of_lower_rank_makes_is_named(tmp_path: Path):
    path = rank_file(tmp_path / "x", ranks_of(b"abc", b"ab"))
    with pytest.raises(ValueError, match="token b'abc' of rank 256 is not made of two .* but of 3"):
        read_tiktoken(path, pattern="")


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        ({"<s>": 97}, "'<s>' is to have id 97, which is the token b'a'; the first .* is 257"),
        ({"<s>": 300, "<t>": 300}, "two special tokens are to have id 300"),
    ],
)
def test_special_tokens_in_each_others_way_are_refused(
    tmp_path: Path, special_tokens: dict, message: str
):
    path = rank_file(tmp_path / "x", ranks_of(b"ab"))
    with pytest.raises(ValueError, match=message):
        read_tiktoken(path, pattern="", special_tokens=special_tokens)


def test_merges_out_of_the_order_of_their_ids_are_not_written(tmp_path: Path):
    sound = vocabulary_of((A, B), (C, C))
    swapped = replace(sound, merges=sound.merges[::-1])
    with pytest.raises(ValueError, match=r"merge 1 makes token 256 \(b'ab'\) after .* 257"):
        write_tiktoken(swapped, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_merge_that_tiktoken_would_make_otherwise_is_not_written(tmp_path: Path):
    sound = vocabulary_of((A, B), (B, C), (256, C))
    otherwise = replace(sound, merges=((A, B), (B, C), (A, 257)))
    with pytest.raises(ValueError, match=r"token 258 \(b'abc'\) of b'ab' and b'c', which do not"):
        write_tiktoken(otherwise, tmp_path / "x")
    both = replace(sound, merges=(*sound.merges, (A, 257)))
    write_tiktoken(both, tmp_path / "x")
    read = read_tiktoken(tmp_path / "x", pattern="", special_tokens={END_OF_TEXT: None})
    assert read.merges == sound.merges


def test_a_token_that_nothing_merges_to_is_not_written(tmp_path: Path):
    tokens = (*BYTES, b"xyz")
    with pytest.raises(ValueError, match="token b'xyz' of rank 256 is not made of two"):
        write_tiktoken(Vocabulary(tokens, (), {}), tmp_path / "x")
