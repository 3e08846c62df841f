"""AdamW's own kernel, interpreted, does what PyTorch does in fp64, whatever it is given."""

from collections.abc import Iterator
from importlib.util import find_spec

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from modelwright.training import adamw_kernel
from modelwright.training.adamw_kernel import AdamWNumbers, AddressTable, launch

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="Triton, whose interpreter runs the kernel, is not installed",
)
shares = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 0.999])


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TRITON_INTERPRET", "1")
        changed.setattr(adamw_kernel, "block", 8)
        changed.setattr(adamw_kernel, "blocks_in_chunk", 2)
        adamw_kernel._kernel.cache_clear()
        yield
        adamw_kernel._kernel.cache_clear()


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    n_before=st.integers(0, 5000),
    rate=st.floats(2**-20, 1.0, width=32),
    betas=st.tuples(shares, shares),
    epsilon=st.sampled_from([1e-12, 1e-8, 1e-3]),
    weight_decay=st.sampled_from([0.0, 0.1, 0.5]),
    divisor=st.none() | st.floats(2**-10, 2**17, width=32),
    size=st.sampled_from([1e-10, 1e-3, 1.0, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_step_is_that_of_fp64(
    lengths: list[int],
    n_before: int,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    divisor: float | None,
    size: float,
    seed: int,
):
    generator = torch.Generator().manual_seed(seed)

    def numbers(times: float = 1.0) -> list[torch.Tensor]:
        return [times * torch.randn(length, generator=generator) for length in lengths]

    parameters, gradients, means = numbers(), numbers(size * (divisor or 1)), numbers(size)
    squares = [one.square() for one in numbers(size)]
    n_steps = torch.tensor(n_before + 1.0)
    by = None if divisor is None else torch.tensor(divisor)
    exact = [[one.double() for one in kind] for kind in (parameters, gradients, means, squares)]
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
        exact[0],
        exact[1],
        exact[2],
        exact[3],
        [],
        [n_steps] * len(lengths),
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=epsilon,
        amsgrad=False,
        maximize=False,
        grad_scale=by,
        found_inf=None,
    )
    before = [one.clone() for one in parameters]
    table = AddressTable(parameters, means, squares)
    table.tell_gradients(gradients)
    launch(
        table,
        AdamWNumbers(
            n_steps=n_steps,
            learning_rate=rate,
            betas=betas,
            epsilon=epsilon,
            weight_decay=weight_decay,
            divisor=by,
        ),
    )
    # Each result is rounded a few times, by 2^-24 of the largest number on the way to it.
    for ours, other, first in zip(parameters, exact[0], before, strict=True):
        largest = torch.maximum(first.double().abs(), (other - first).abs())
        assert ((ours - other).abs() <= 2**-20 * largest + 1e-30).all()
    for ours, other in zip(squares, exact[3], strict=True):
        assert torch.allclose(ours.double(), other, rtol=2**-21, atol=1e-37)
    for ours, other, gradient in zip(means, exact[2], exact[1], strict=True):
        largest = torch.maximum(other.abs(), gradient.abs()) + size
        assert ((ours - other).abs() <= 2**-20 * largest).all()
