"""How files spell bytes: GPT-2's alphabet of one printable character for each byte value.

JSON and lines of text have no byte strings, so `vocab.json`, `merges.txt` and `tokenizer.json` all
write their tokens in it. A space is "Ġ".
"""

from collections.abc import Mapping
from functools import cache

from modelwright.tokenizer.vocabulary import N_BYTE_VALUES


@cache
def byte_alphabet() -> tuple[str, ...]:
    """The character that stands for each byte value.

    Printable characters of Latin-1 stand for themselves; the other bytes take the characters from
    U+0100 on, in order. Source: openai/gpt-2, src/encoder.py, bytes_to_unicode.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)}
    printable |= set(range(ord("®"), ord("ÿ") + 1))
    unprintable = [value for value in range(N_BYTE_VALUES) if value not in printable]
    stand_ins = {value: chr(N_BYTE_VALUES + i) for i, value in enumerate(unprintable)}
    return tuple(stand_ins.get(value, chr(value)) for value in range(N_BYTE_VALUES))


def spell(token: bytes) -> str:
    """Write a token in the alphabet."""
    return token.decode("latin-1").translate(_character_of_byte())


def unspell(text: str) -> bytes:
    """Read a token written in the alphabet.

    Raises:
        ValueError: if a character stands for no byte.
    """
    values = _byte_of_character()
    try:
        return bytes([values[character] for character in text])
    except KeyError as error:
        raise ValueError(
            f"token {text!r} holds {error.args[0]!r}, which stands for no byte in GPT-2's "
            "alphabet; only byte-level vocabularies can be read"
        ) from None


@cache
def _character_of_byte() -> dict[int, str]:
    return dict(enumerate(byte_alphabet()))


@cache
def _byte_of_character() -> Mapping[str, int]:
    return {character: value for value, character in enumerate(byte_alphabet())}
