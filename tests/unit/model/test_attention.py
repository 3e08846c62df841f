import itertools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import small
from modelwright.model import attention as module
from modelwright.model.attention import (
    AttentionKind,
    Visibility,
    choose_attention,
    make_attend,
    plain_attention,
)

cpu_kinds: list[AttentionKind] = ["plain", "striped", "math", "flash"]
cpu = torch.device("cpu")


def inputs(
    dtype: torch.dtype,
    *,
    n_heads: int = 4,
    n_kv_heads: int = 4,
    n_tokens: int = 19,
    d_head: int = 8,
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(2, heads, n_tokens, d_head, generator=generator, dtype=torch.float64)
        .to(dtype)
        .requires_grad_()
        for heads in (n_heads, n_kv_heads, n_kv_heads)
    )
    return queries, keys, values


def mask(kind: str, n_tokens: int = 19) -> Tensor | None:
    documents = torch.tensor([[0] * 7 + [1] * 12, [4] + [2] * 18])
    window = 5 if kind in ("window", "both") else None
    given = documents if kind in ("documents", "both") else None
    return Visibility(window)(n_tokens, given, cpu)


def with_gradients(
    kind: AttentionKind, tensors: Sequence[Tensor], visible: Tensor | None
) -> list[Tensor]:
    queries, keys, values = tensors
    mixed = make_attend(kind)(queries, keys, values, visible, 0.0)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(mixed.shape, generator=generator).to(mixed.dtype)
    return [mixed, *torch.autograd.grad((mixed * weights).sum(), tensors)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-14),
        (torch.float32, 1e-5),
        (torch.bfloat16, 0.05),  # scores and weights are rounded to 8 bits at different places
    ],
)
@pytest.mark.parametrize("hidden", ["later", "window", "documents", "both"])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_all_kinds_give_the_same_answer_and_gradient(
    dtype: torch.dtype, tolerance: float, hidden: str, n_kv_heads: int
):
    # The plain one is held to the equation in test_equations.py.
    exact = inputs(dtype, n_kv_heads=n_kv_heads)
    expected = with_gradients(
        "plain", [x.detach().double().requires_grad_() for x in exact], mask(hidden)
    )
    for kind in cpu_kinds:
        for ours, theirs in zip(with_gradients(kind, exact, mask(hidden)), expected, strict=True):
            assert ours.dtype == dtype
            error = (ours.double() - theirs).abs().max().item()
            assert error <= tolerance * theirs.abs().max().item(), kind


def test_a_kind_that_does_not_work_here_fails_instead_of_becoming_another():
    queries, keys, values = inputs(torch.float32)
    with pytest.raises(RuntimeError, match="No (viable backend|available kernel)"):
        make_attend("cudnn")(queries, keys, values, None, 0.0)


def test_threads_do_not_get_the_kernel_that_another_asks_for():
    given = inputs(torch.float32)
    kinds: list[AttentionKind] = ["math", "flash"]

    def mixed_by(kind: AttentionKind) -> Tensor:
        return make_attend(kind)(*given, None, 0.0)

    alone = [mixed_by(kind) for kind in kinds]
    assert not torch.equal(*alone)  # or this shows nothing
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # take turns within every call
    try:
        with ThreadPoolExecutor(4) as threads:
            repeated = kinds * 500
            found = list(threads.map(mixed_by, repeated))
    finally:
        sys.setswitchinterval(interval)
    for kind, mixed in zip(repeated, found, strict=True):
        assert torch.equal(mixed, alone[kinds.index(kind)])


def test_query_heads_share_the_keys_and_values_of_their_group():
    grouped, full = small.model(n_kv_heads=2), small.model(n_kv_heads=4)
    weights = grouped.state_dict()
    d_head, n_heads = grouped.config.head_width, grouped.config.n_heads
    for name in [name for name in weights if name.endswith("qkv.weight")]:
        queries, keys, values = weights[name].split([n_heads * d_head, 2 * d_head, 2 * d_head])
        repeated = [
            part.view(2, d_head, -1).repeat_interleave(2, dim=0).flatten(0, 1)
            for part in (keys, values)
        ]
        weights[name] = torch.cat([queries, *repeated])
    full.load_state_dict(weights)
    assert torch.allclose(grouped(small.ids()), full(small.ids()), atol=1e-5)


def test_normalised_queries_and_keys_ignore_the_size_of_their_weights():
    model, scaled = (small.model(qk_norm=True, norm_epsilon=1e-12) for _ in range(2))
    d_queries_and_keys = 6 * model.config.head_width
    with torch.no_grad():
        for block in scaled.blocks:
            block.attention.qkv.weight[:d_queries_and_keys] *= 7  # type: ignore[union-attr]
    assert torch.allclose(model(small.ids()), scaled(small.ids()), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("deterministic", [False, True])
def test_what_is_chosen_works(
    dtype: torch.dtype, masked: bool, dropout: float, deterministic: bool
):
    for n_tokens, d_head in itertools.product([19, 513], [6, 64, 200]):
        kind = choose_attention(
            cpu,
            dtype,
            d_head=d_head,
            n_tokens=n_tokens,
            masked=masked,
            dropout=dropout,
            deterministic=deterministic,
        )
        queries, keys, values = inputs(dtype, d_head=d_head)
        visible = mask("both" if masked else "later")
        mixed = make_attend(kind)(queries, keys, values, visible, dropout)
        mixed.sum().backward()
        assert mixed.isfinite().all()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in (queries, keys, values))


def choice(**changes: Any) -> AttentionKind:
    usual: dict[str, Any] = {
        "d_head": 64,
        "n_tokens": 1024,
        "masked": False,
        "dropout": 0.0,
        "deterministic": False,
    }
    device, dtype = changes.pop("device", cpu), changes.pop("dtype", torch.float32)
    return choose_attention(device, dtype, **(usual | changes))


def test_a_cpu_gets_stripes_for_what_is_not_too_long():
    assert choice(n_tokens=8) == choice(n_tokens=1024) == "striped"
    assert choice(n_tokens=1025) == choice(dtype=torch.bfloat16, n_tokens=1025) == "flash"


def test_a_cpu_gets_the_fused_kernel_for_masks_unless_the_plain_one_is_faster_or_drops():
    assert choice(masked=True) == choice(masked=True, n_tokens=8) == "flash"
    assert choice(masked=True, dtype=torch.bfloat16, n_tokens=512) == "plain"
    assert choice(dropout=0.1) == "plain"  # the CPU's fused kernel has no dropout


def test_the_first_kernel_that_works_is_taken(monkeypatch: pytest.MonkeyPatch):
    cuda = torch.device("cuda")
    working: set[str] = set()
    tried: list[tuple[Any, ...]] = []

    def works(kind: str, *arguments: Any) -> bool:
        tried.append((kind, *arguments))
        return kind in working

    monkeypatch.setattr(module, "_works", works)
    assert choice(device=cuda, dtype=torch.bfloat16, masked=True, dropout=0.1) == "plain"
    assert [kind for kind, *_ in tried] == ["flash", "cudnn", "efficient", "math"]
    assert {tuple(rest) for _, *rest in tried} == {(cuda, torch.bfloat16, 64, True, 0.1)}
    working |= {"efficient", "math"}
    assert choice(device=cuda) == "efficient"
    assert choice(device=cuda, deterministic=True) == "math"
    tried.clear()
    working.clear()
    choice(device=cuda, deterministic=True)
    assert [kind for kind, *_ in tried] == ["flash", "math"]


@pytest.mark.parametrize("kind", ["plain", "math"])
@pytest.mark.parametrize("hidden", ["later", "both"])
def test_dropout_zeroes_weights_and_makes_up_for_them(kind: AttentionKind, hidden: str):
    queries, keys, _ = inputs(torch.float32)
    # Values that are the unit vectors show the weights themselves.
    values = torch.eye(19).expand(2, 4, 19, 19)
    visible = mask(hidden)
    queries, keys = (x.detach().repeat(1, 1, 1, 3)[..., :19] for x in (queries, keys))
    whole = plain_attention(queries, keys, values, visible, 0.0)
    torch.manual_seed(0)
    total, n_kept, n_seen, n_draws = torch.zeros_like(whole), 0, 0, 60
    for _ in range(n_draws):
        dropped = make_attend(kind)(queries, keys, values, visible, 0.25)
        kept = dropped != 0
        assert torch.allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-4)
        total += dropped
        n_kept, n_seen = n_kept + int(kept.sum()), n_seen + int((whole != 0).sum())
    assert n_kept / n_seen == pytest.approx(0.75, abs=0.02)
    # A weight w has the variance w² / 3; this is five of the mean's standard deviations.
    assert ((total / n_draws - whole).abs() <= 5 * whole / (3 * n_draws) ** 0.5 + 1e-6).all()


def test_without_documents_and_window_nothing_needs_a_mask():
    assert Visibility(None)(11, None, cpu) is None
    assert Visibility(11)(11, None, cpu) is None
    assert Visibility(10)(11, None, cpu) is not None


def test_the_mask_is_that_of_its_definition():
    documents = torch.tensor([[0, 0, 0, 1, 1, 1], [5, 3, 3, 3, 3, 9]])
    visible = Visibility(2)(6, documents, cpu)
    assert visible is not None and visible.shape == (2, 1, 6, 6)
    for row, here, there in itertools.product(range(2), range(6), range(6)):
        expected = 0 <= here - there < 2 and documents[row, here] == documents[row, there]
        assert visible[row, 0, here, there] == expected
