import io

import pytest
from matplotlib import image

from modelwright.experiments.tokenizer_plots import tokenizer_picture

LENGTHS = {1: 256, 2: 40, 30: 2}


def size_of(picture: bytes) -> tuple[int, ...]:
    return image.imread(io.BytesIO(picture), format="png").shape[:2]


def test_compression_gets_a_panel_of_its_own_if_it_was_measured():
    alone, both = tokenizer_picture(LENGTHS, {}), tokenizer_picture(LENGTHS, {256: 1.0, 300: 2.0})
    assert size_of(both) == (size_of(alone)[0], 2 * size_of(alone)[1])


@pytest.mark.parametrize("lengths", [{1: 256}, {1: 256, 2: 41, 30: 2}, {1: 256, 2: 40}])
def test_every_count_shows_in_the_picture(lengths: dict[int, int]):
    assert tokenizer_picture(lengths, {}) != tokenizer_picture(LENGTHS, {})
