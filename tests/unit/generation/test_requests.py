"""What a text is made of as its tokens come, and where it ends."""

import pytest

import small
from modelwright.generation.requests import Handle, Request, StopFinder

tokenizer = small.tokenizer()


def fed(stops: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    finder, shown = StopFinder(stops), []
    for piece in pieces:
        text, is_stopped = finder.feed(piece)
        shown.append(text)
        if is_stopped:
            return shown, True
    return [*shown, finder.held], False


def test_a_stop_text_is_found_across_pieces_and_never_shown():
    assert fed(["END"], ["abE", "N", "Dxy"]) == (["ab", "", ""], True)
    assert fed(["END"], ["aENDb"]) == (["a"], True)


def test_what_only_begins_like_a_stop_text_is_shown_later():
    assert fed(["END"], ["aE", "Nx", "E"]) == (["a", "ENx", "", "E"], False)
    assert fed(["aab"], ["aa", "ab"]) == (["", "a"], True)


def test_the_first_stop_text_to_be_complete_counts_however_the_text_is_cut():
    for pieces in (["xabcd"], ["xa", "bcd"], ["x", "a", "b", "c", "d"]):
        shown, is_stopped = fed(["abcd", "bc"], pieces)
        assert ("".join(shown), is_stopped) == ("xa", True)
    assert fed(["bc", "abc"], ["xabc"]) == (["x"], True)


def written(request: Request, text: str | bytes) -> Handle:
    handle = Handle(request, tokenizer)
    for token in tokenizer.encode(text).tolist():
        if handle.ended is None:
            handle.accept(token)
    return handle


def test_a_stop_text_ends_a_text_inside_a_token():
    handle = written(Request(stop=["pon"], max_tokens=50), "Once upon a time")
    assert (handle.text, handle.ended) == ("Once u", "stop")


def test_a_character_is_shown_when_it_is_whole():
    handle = Handle(Request(), tokenizer)
    pieces = []
    for token in tokenizer.encode("ü€").tolist():
        handle.accept(token)
        pieces.append(handle.take())
    assert "".join(pieces) == "ü€"
    assert "�" not in "".join(pieces) and "" in pieces


def test_a_character_that_is_never_completed_is_replaced_at_the_end():
    handle = written(Request(max_tokens=1), b"\xe2")
    assert (handle.text, handle.ended) == ("�", "max_tokens")


def test_what_was_held_back_is_shown_at_the_end():
    handle = written(Request(stop=["time!"], max_tokens=len(tokenizer.encode("a time"))), "a time")
    assert (handle.text, handle.ended) == ("a time", "max_tokens")


def test_stop_tokens_end_a_text_and_are_no_part_of_it():
    last = tokenizer.encode("a dog").tolist()[-1]
    handle = written(Request(stop_tokens=[last]), "a dog")
    assert handle.ended == "stop" and handle.tokens[-1] == last
    assert "a dog".startswith(handle.text) and handle.text != "a dog"


def test_the_end_of_text_ends_a_text_unless_it_is_ignored():
    for ignore, ended in ((False, "end_of_text"), (True, None)):
        handle = Handle(Request(ignore_end=ignore), tokenizer)
        handle.accept(tokenizer.end_of_text)
        assert handle.ended == ended


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; the least is 1"),
        ({"stop": "END"}, "stop is 'END'; give a list"),
        ({"stop": [""]}, "none of them empty"),
        ({"n_logprobs": -1}, "n_logprobs is -1"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(setting: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Request(**setting)
