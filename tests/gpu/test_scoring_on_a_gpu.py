"""Scoring on a GPU: the same as on the processor, whichever kernel attention takes."""

from typing import Any

import pytest
import torch

import small
from modelwright.evaluation.encoding import Scored
from modelwright.evaluation.scoring import Scorer
from modelwright.model.transformer import Transformer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
shapes: list[dict[str, Any]] = [
    {"norm": "layernorm", "bias": True, "positions": "learned", "mlp": "gelu_tanh"},
    {"n_kv_heads": 1, "qk_norm": True, "d_model": 64, "d_head": 16},
    {"window": 5},
]


def questions() -> list[tuple[Scored, ...]]:
    """Beginnings of several lengths with several ends, and texts alone."""
    generator = torch.Generator().manual_seed(0)

    def ids(n_ids: int) -> list[int]:
        return torch.randint(37, (n_ids,), generator=generator).tolist()

    made: list[tuple[Scored, ...]] = []
    for n_before in (1, 3, 9, 20, 33):
        before = ids(n_before)
        ends = [ids(n_after) for n_after in (1, 2, 7, 4)]
        made.append(tuple(Scored((*before, *end), len(end)) for end in ends))
        made.append((Scored((*before, 5), 1),))
    return made


def logprobs(model: Transformer, **choice: int) -> list[float]:
    asked = questions()
    found = {k: v for batch in Scorer(model, **choice).outcomes(asked) for k, v in batch.items()}
    return [value for place in range(len(asked)) for value in found[place].logprobs]


@pytest.mark.parametrize("shape", shapes)
@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("batch_tokens", [100, 10_000])
def test_scores_are_those_of_the_processor(
    shape: dict[str, Any], dtype: torch.dtype, apart: float, batch_tokens: int
):
    expected = logprobs(small.model(context=64, **shape).eval())
    model = small.model(context=64, dtype=dtype, **shape).eval().to("cuda")
    assert logprobs(model, batch_tokens=batch_tokens) == pytest.approx(expected, abs=apart)
