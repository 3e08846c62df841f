"""Writing on a GPU: steps that are CUDA graphs write what others write, and nobody waits for them.

`SHAPE_CHECKS=off python -m pytest tests/gpu`, as torch.compile wants it.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.generation import (
    decode_kernels,
    decode_step,
    draw_kernels,
    product_kernels,
    row_drawing,
)
from modelwright.generation.cached_model import CachedModel
from modelwright.generation.config import SamplingConfig
from modelwright.generation.decode_step import Places, kernels_for
from modelwright.generation.engine import Engine, n_steps_ahead
from modelwright.generation.requests import Handle, Request
from modelwright.generation.row_drawing import RowSettings, Stages
from modelwright.model.gpu_kernels import suits_gpu_kernel
from modelwright.model.linear import Linear
from modelwright.model.norms import make_norm
from modelwright.runtime.graphs import CudaGraphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
gpu = torch.device("cuda")
needs_triton = pytest.mark.skipif(
    not (torch.cuda.is_available() and suits_gpu_kernel(gpu)),
    reason="Triton makes no kernels for this GPU",
)
tokenizer = small.tokenizer()
greedy = SamplingConfig(temperature=0)
gpt2 = {"norm": "layernorm", "bias": True, "positions": "learned", "mlp": "gelu_tanh"}
shapes: list[dict[str, Any]] = [
    {**gpt2, "n_kv_heads": 4},
    {"window": 5, "mlp": "relu2"},
    {"n_kv_heads": 1, "qk_norm": True, "d_head": 10},
    {"placement": "post", **gpt2},
    {"norm": "none", "vocab_multiple": 64, "tie_embeddings": False},
]


def model_of(dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    shape: dict[str, Any] = {"vocab_size": tokenizer.n_vocab, "context": 48} | changes
    return small.model(dtype=dtype, **shape).to(gpu).eval()


def finished(model: Any, requests: list[Request], **settings: Any) -> list[Handle]:
    settings = {"n_slots": 3, "graphs": True} | settings
    engine = Engine(model, tokenizer, **settings)
    handles = [engine.submit(request) for request in requests]
    engine.run()
    return handles


def outcome(handles: list[Handle]) -> list[Any]:
    return [(handle.tokens, handle.text, handle.ended) for handle in handles]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The editions of torch in the place of our kernels."""
    monkeypatch.setattr(decode_step, "suits_gpu_kernel", lambda device: False)
    monkeypatch.setattr(row_drawing, "suits_gpu_kernel", lambda device: False)


mixed = [
    Request(prompt="Once", max_tokens=30, sampling=greedy, ignore_end=True),
    Request(prompt="The little dog", max_tokens=60, sampling=greedy, ignore_end=True),  # slides
    Request(prompt="A", max_tokens=25, sampling=SamplingConfig(top_k=20), seed=2),
    Request(prompt="", max_tokens=33, sampling=SamplingConfig(temperature=2.0, top_p=1), seed=3),
    Request(prompt="Once", max_tokens=9, sampling=SamplingConfig(min_p=0.1, top_p=0.5), seed=4),
    Request(prompt="On", max_tokens=16, sampling=SamplingConfig(repetition_penalty=3.0), seed=6),
    Request(prompt="The", max_tokens=19, stop=["e", "a"], seed=7),
]


@pytest.mark.parametrize("changes", shapes, ids=str)
def test_graphs_write_the_greedy_texts_of_steps_without(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
):
    monkeypatch.setattr(decode_step, "least_reach", 16)
    model = model_of(**changes)
    asked = [request for request in mixed if request.sampling == greedy]
    asked += [Request(prompt="A dog", max_tokens=31, sampling=greedy, ignore_end=True)] * 2
    expected = outcome(finished(model, asked, graphs=False))
    assert outcome(finished(model, asked)) == expected
    assert outcome(finished(model, asked, n_slots=1)) == expected


def test_graphs_of_plain_operations_write_them_too(plain: None):
    model = model_of()
    assert kernels_for(gpu, torch.float32) is decode_step.plain_kernels
    expected = outcome(finished(model, mixed, graphs=False))
    assert outcome(finished(model, mixed)) == expected


def test_seeded_texts_repeat_alone_and_beside_others():
    model = model_of()
    together = outcome(finished(model, mixed, n_slots=4))
    assert outcome(finished(model, mixed, n_slots=4)) == together
    assert [outcome(finished(model, [request]))[0] for request in mixed] == together
    assert together == outcome(finished(model, mixed, graphs=False))
    others = [Request(prompt="A", max_tokens=25, seed=seed) for seed in range(4)]
    assert len({tuple(handle.tokens) for handle in finished(model, others)}) == 4


@pytest.mark.parametrize(
    "sampling",
    [greedy, SamplingConfig(top_k=20, min_p=0.01), SamplingConfig(repetition_penalty=1.2)],
    ids=str,
)
def test_a_step_never_waits_for_the_gpu(sampling: SamplingConfig):
    engine = Engine(model_of(torch.bfloat16, context=128), tokenizer, n_slots=2, graphs=True)
    handles = [
        engine.submit(
            Request(prompt="A", max_tokens=60, sampling=sampling, seed=seed, ignore_end=True)
        )
        for seed in range(2)
    ]
    for _ in range(8):
        engine.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(40):
            assert engine.step() == handles
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [handle.n_drawn - len(handle.tokens) for handle in handles] == [n_steps_ahead] * 2


def test_the_recorded_step_is_a_graph():
    made: list[CudaGraphs] = []

    class Counted(CudaGraphs):
        def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
            made.append(self)
            return super().__call__(function)

    asked = Request(prompt="A", max_tokens=20, sampling=greedy, ignore_end=True)
    finished(model_of(), [asked], record=Counted())
    assert len(made) == 1


def test_log_probabilities_are_those_without_graphs():
    model = model_of()
    asked = [Request(prompt="Once", max_tokens=12, seed=2, n_logprobs=3)]
    one, other = (finished(model, asked, graphs=graphs)[0] for graphs in (True, False))
    assert one.tokens == other.tokens and len(one.logprobs) == len(one.tokens)
    for a, b in zip(one.logprobs, other.logprobs, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert [token for token, _ in a.likeliest] == [token for token, _ in b.likeliest]


def test_bf16_steps_give_the_logits_of_the_model():
    model = model_of(torch.bfloat16, **gpt2, d_model=64, n_heads=4, n_kv_heads=4)
    ids = torch.randint(tokenizer.n_vocab, (3, 40), device=gpu)
    cached = CachedModel(model, n_slots=3, record=CudaGraphs())
    for row in range(3):
        cached.prefill([row], ids[row : row + 1, :30])
    found = [cached.decode(ids[:, place]).clone() for place in range(30, 40)][-1].float()
    with torch.inference_mode():
        expected = model(ids)[:, -1].float()
    # A few of the eight bits of a number.
    assert (found - expected).abs().max() < 0.03 * expected.abs().max()


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "none"])
def test_a_sum_and_its_norm_are_those_of_torch(dtype: torch.dtype, kind: Any):
    norm = make_norm(kind, 768, bias=True, epsilon=1e-5).to(gpu)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    generator = torch.Generator(gpu).manual_seed(0)
    x, update = (torch.randn(5, 768, device=gpu, generator=generator) for _ in range(2))
    for stream in {torch.float32, dtype}:
        for added in (None, update.to(dtype)):
            with torch.no_grad():
                found = decode_kernels.add_norm(x.to(stream), added, norm, dtype)
                expected = decode_step.add_norm(x.to(stream), added, norm, dtype)
            assert found[0].equal(expected[0])
            # Statistics in fp32 both; a 16-bit result may round to the neighbour.
            tolerance = 1e-5 if dtype == torch.float32 else 0.02
            torch.testing.assert_close(found[1], expected[1], rtol=tolerance, atol=tolerance)


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "n_heads", "n_kv_heads", "d_head", "turned"),
    [
        (torch.float32, 12, 12, 64, False),
        (torch.bfloat16, 12, 12, 64, False),
        (torch.bfloat16, 8, 2, 128, True),
        (torch.float32, 6, 1, 10, True),
    ],
)
def test_attention_mixes_what_torch_mixes(
    dtype: torch.dtype, n_heads: int, n_kv_heads: int, d_head: int, turned: bool
):
    generator = torch.Generator(gpu).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=gpu, generator=generator).to(dtype)

    n_tokens, lengths = 2000, [0, 1, 700, 1999]
    keys, values = (random(6, n_kv_heads, n_tokens, d_head) for _ in range(2))
    angles = torch.randn(4, 1, 1, d_head // 2, device=gpu, generator=generator)
    turns = (angles.cos().to(dtype), angles.sin().to(dtype)) if turned else None
    # One text alone is shared between more programs.
    for rows, window in itertools.product((slice(0, 4), slice(2, 3)), (10_000, 700, 1)):
        places = torch.tensor(lengths, device=gpu)[rows]
        heads = random(len(places), n_heads + 2 * n_kv_heads, d_head)
        some = None if turns is None else (turns[0][rows], turns[1][rows])
        seen = Places(places, n_tokens, window)
        kept = [keys.clone(), values.clone()]
        found = decode_kernels.mix(heads, some, kept[0], kept[1], seen)
        other = [keys.clone(), values.clone()]
        expected = decode_step.mix(heads, some, other[0], other[1], seen)
        tolerance = 1e-4 if dtype == torch.float32 else 0.03
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(kept, other, rtol=tolerance, atol=tolerance)
    assert decode_kernels.parts_of(n_tokens, n_heads) > 1


@needs_triton
@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu", "relu2", "swiglu"])
@pytest.mark.parametrize("bias", [True, False])
def test_an_mlp_by_fewer_kernels_is_the_mlp(n_rows: int, kind: Any, bias: bool):
    x = torch.randn(n_rows, 24, device=gpu)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
        model = model_of(dtype, mlp=kind, bias=bias)
        block: Any = CachedModel(model, n_slots=1).model.blocks[0]
        with torch.inference_mode():
            expected = block.mlp(x.to(dtype))
            found = product_kernels.mlp(block.mlp, x.to(dtype))
        assert (found - expected).abs().max() < tolerance * expected.abs().max()


@needs_triton
@pytest.mark.parametrize("n_rows", [1, 2, 64])
@pytest.mark.parametrize(("d_in", "d_out"), [(768, 2304), (3072, 768), (770, 50257), (10, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_products(n_rows: int, d_in: int, d_out: int, bias: bool):
    generator = torch.Generator(gpu).manual_seed(0)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.01)):
        linear = Linear(d_in, d_out, bias=bias, dtype=dtype).to(gpu, dtype).requires_grad_(False)
        for parameter in linear.parameters():
            parameter.normal_(generator=generator)
        x = torch.randn(n_rows, d_in, device=gpu, generator=generator).to(dtype)
        exactly = x.double() @ linear.weight.double().T
        exactly += 0 if linear.bias is None else linear.bias.double()
        found = product_kernels.product(linear, x)
        assert found.shape == exactly.shape and found.dtype == dtype
        assert (found - exactly).abs().max() < tolerance * exactly.abs().max()


configs = [
    greedy,
    SamplingConfig(temperature=1.0, top_p=1.0),
    SamplingConfig(),
    SamplingConfig(temperature=2.0, top_p=0.3),
    SamplingConfig(top_k=7, top_p=1.0),
    SamplingConfig(top_k=40, top_p=0.8),
    SamplingConfig(top_k=10**6, top_p=0.9),
    SamplingConfig(top_k=30, top_p=0.9, min_p=0.2),
    SamplingConfig(min_p=0.5, top_p=1.0),
    SamplingConfig(repetition_penalty=4.0, top_k=3),
]


@needs_triton
@pytest.mark.parametrize("grain", [0.0, 0.25])
@pytest.mark.parametrize(
    ("dtype", "n_vocab", "alone"),
    [
        (torch.bfloat16, 50257, [1, 3, 4, 5, 8]),
        (torch.float32, 50257, [5]),
        (torch.float16, 300, [5]),
    ],
)
def test_tokens_are_drawn_as_by_sorting(
    dtype: torch.dtype, n_vocab: int, alone: list[int], grain: float
):
    generator = torch.Generator(gpu).manual_seed(n_vocab)
    n_rows, n_differing = 3 * len(configs), 0
    settings = RowSettings.neutral(n_rows, gpu)
    for chosen in (configs, *([configs[place]] for place in alone)):
        rows = [chosen[row % len(chosen)] for row in range(n_rows)]
        settings.fill(rows)
        logits = 3 * torch.randn(n_rows, n_vocab + 47, device=gpu, generator=generator)
        logits = ((logits / grain).round() * grain if grain else logits).to(dtype)[:, :n_vocab]
        chances = torch.rand(n_rows, dtype=torch.float64, device=gpu, generator=generator)
        chances[0], chances[1] = 0.0, 1 - 2**-53
        seen = torch.rand(n_rows, n_vocab, device=gpu, generator=generator) < 0.2
        given = (logits, settings, Stages.of(rows), chances, seen)
        found, expected = draw_kernels.draw_rows(*given), row_drawing.draw_rows(*given)
        assert int(found.min()) >= 0 and int(found.max()) < n_vocab
        n_differing += int((found != expected).sum())
    # Where a number lies on the edge of a token's share, or a share on the edge of the nucleus,
    # the last bits of fp32 sums decide: some in ten thousand.
    assert n_differing <= 3


@needs_triton
def test_a_step_of_our_kernels_has_far_fewer_of_them():
    """They are what a step for one text takes its time for."""
    model = model_of(torch.bfloat16, **gpt2, n_kv_heads=4, n_layers=6)
    recorded = CachedModel(model, n_slots=1, n_tokens=40, record=CudaGraphs()).recorded
    assert recorded is not None

    @torch.inference_mode()
    def n_kernels() -> int:
        recorded.step.logits(1, 40)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            recorded.step.logits(1, 40)
            torch.cuda.synchronize()
        events = [event for event in profile.key_averages() if event.self_device_time_total > 0]
        return sum(event.count for event in events)

    ours = n_kernels()
    recorded.step.kernels = decode_step.plain_kernels
    assert 0 < ours <= 0.65 * n_kernels()
