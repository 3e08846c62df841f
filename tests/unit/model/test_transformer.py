import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import small
from modelwright.data.loader import not_a_target
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import PostNormBlock, PreNormBlock, Transformer

cpu_kinds: list[AttentionKind] = ["plain", "math", "flash"]
choices: list[dict[str, Any]] = [
    {},
    {"norm": "layernorm", "bias": True, "mlp": "gelu", "positions": "learned"},
    {"positions": "none", "n_kv_heads": 1, "tie_embeddings": False},
    {"placement": "post", "mlp": "relu2", "n_kv_heads": None},
    {"norm": "none", "qk_norm": True, "d_head": 10, "mlp": "silu"},
    {"vocab_multiple": 16, "rope_factor": 4.0, "mlp": "gelu_tanh"},
]


def reach(model: Transformer, ids: Tensor, **arguments: Any) -> Tensor:
    """For each position of one row, how strongly its loss moves with each embedded token."""
    taken: list[Tensor] = []

    def take(_module: object, _inputs: object, output: Tensor) -> Tensor:
        taken.append(output.detach().requires_grad_())
        return taken[0]

    handle = model.embedding.register_forward_hook(take)
    logits = model(ids, **arguments)
    handle.remove()
    losses = [functional.cross_entropy(line[None], torch.tensor([3])) for line in logits[0]]
    gradients = [torch.autograd.grad(loss, taken[0], retain_graph=True)[0][0] for loss in losses]
    return torch.stack(gradients).abs().sum(-1)


@pytest.mark.parametrize("choice", choices, ids=str)
@pytest.mark.parametrize("attention", cpu_kinds)
def test_no_position_depends_on_a_later_token(choice: dict[str, Any], attention: AttentionKind):
    strengths = reach(small.model(attention=attention, **choice), small.ids(batch=1))
    allowed = torch.ones_like(strengths, dtype=torch.bool).tril()
    assert torch.equal(strengths != 0, allowed)  # exactly zero, not nearly


@pytest.mark.parametrize("attention", cpu_kinds)
@pytest.mark.parametrize("window", [1, 3, 11, 12])
def test_a_position_sees_exactly_its_window(window: int, attention: AttentionKind):
    model = small.model(n_layers=1, window=window, attention=attention)
    places = torch.arange(11)
    distance = places[:, None] - places
    allowed = (distance >= 0) & (distance < window)
    assert torch.equal(reach(model, small.ids(batch=1)) != 0, allowed)


def test_each_layer_adds_a_window_to_what_is_reached():
    distance = torch.arange(11)[:, None] - torch.arange(11)
    model = small.model(n_layers=3, window=3)
    allowed = (distance >= 0) & (distance <= 3 * (3 - 1))
    assert torch.equal(reach(model, small.ids(batch=1)) != 0, allowed)


@pytest.mark.parametrize("attention", cpu_kinds)
@pytest.mark.parametrize("window", [None, 2])
def test_documents_of_a_row_do_not_meet(window: int | None, attention: AttentionKind):
    model = small.model(n_layers=1, window=window, attention=attention)
    # The numbers are names: 7 before 2 is as good as 0 before 1, and a document may be one token.
    documents = torch.tensor([[7, 7, 7, 2, 3, 3, 3, 3, 3, 4, 4]])
    allowed = (documents[0][:, None] == documents[0]).tril()
    if window:
        allowed = allowed.triu(1 - window)
    assert torch.equal(reach(model, small.ids(batch=1), documents=documents) != 0, allowed)


lengths = [[3, 1, 5, 2], [11]]


@pytest.mark.parametrize("window", [None, 2, 4])
@pytest.mark.parametrize("positions", ["learned", "rope", "none"])
def test_packed_documents_get_the_logits_of_separate_texts(positions: str, window: int | None):
    model = small.model(dtype=torch.float64, positions=positions, window=window)
    ids = small.ids()
    parts = [row.split(sizes) for row, sizes in zip(ids, lengths, strict=True)]
    expected = torch.stack([torch.cat([model(part[None])[0] for part in row]) for row in parts])
    begun_anew = torch.stack([torch.cat([torch.arange(n) for n in sizes]) for sizes in lengths])
    numbers = torch.stack(
        [torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) for sizes in lengths]
    )
    packed = model(ids, positions=begun_anew, documents=numbers)
    assert (packed - expected).abs().max() < 1e-12
    running_on = model(ids, documents=numbers)
    # Rotated products depend on distances alone; a learned table also on where a text begins.
    assert ((running_on - expected).abs().max() < 1e-12) == (positions != "learned")
    assert (model(ids, positions=begun_anew) - expected).abs().max() > 1e-3 or window == 1


def test_documents_as_long_as_the_row_change_nothing():
    model, ids = small.model(), small.ids()
    one = model(ids, documents=torch.zeros_like(ids), positions=torch.arange(11).expand(2, -1))
    assert torch.allclose(one, model(ids), atol=1e-5)  # another kernel than without a mask


stretched = {"rope_theta": 100.0, "rope_factor": 4.0, "rope_original_context": 64}
option_changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"n_layers": 3}),
    ({}, {"n_heads": 2, "n_kv_heads": 2}),
    ({}, {"n_kv_heads": 4}),
    ({}, {"d_head": 8}),
    ({}, {"d_ff": 48}),
    ({}, {"norm": "layernorm"}),
    ({}, {"norm": "none"}),
    ({}, {"norm_epsilon": 0.1}),
    ({"norm": "layernorm"}, {"norm_epsilon": 0.1}),
    ({}, {"placement": "post"}),
    ({}, {"qk_norm": True}),
    ({}, {"positions": "learned"}),
    ({}, {"positions": "none"}),
    ({}, {"rope_theta": 100.0}),
    ({}, stretched),
    (stretched, {"rope_factor": 8.0}),
    (stretched, {"rope_low_frequency": 2.0}),
    (stretched, {"rope_high_frequency": 3.0}),
    (stretched, {"rope_original_context": 32}),
    ({}, {"window": 3}),
    *(({}, {"mlp": mlp}) for mlp in ("gelu", "gelu_tanh", "silu", "relu2")),
    ({"mlp": "gelu"}, {"mlp": "gelu_tanh"}),
    ({}, {"bias": True}),
    ({"norm": "layernorm"}, {"bias": True}),
    ({}, {"tie_embeddings": False}),
    ({}, {"dropout": 0.1}),
    ({}, {"d_model": 32}),
    ({}, {"vocab_size": 41}),
]


@pytest.mark.parametrize(("base", "change"), option_changes, ids=str)
def test_every_option_changes_the_answer(base: dict[str, Any], change: dict[str, Any]):
    before = small.model(**base, dtype=torch.float64)(small.ids())
    after = small.model(**(base | change), dtype=torch.float64)(small.ids())
    # The two forms of GELU are the closest of all these.
    assert before.shape != after.shape or (before - after).abs().max() > 1e-4


def test_every_field_of_the_config_is_among_the_tested_options():
    # The context only sets a limit, and the padding of the vocabulary changes no answer; both have
    # tests of their own.
    tested = {name for _, change in option_changes for name in change}
    tested |= {"context", "vocab_multiple"}
    assert tested == {field.name for field in dataclasses.fields(ModelConfig)}


@pytest.mark.parametrize("positions", ["rope", "none"])
def test_a_longer_context_gives_the_same_answer_to_the_same_text(positions: str):
    longer = small.model(context=40, positions=positions)
    longer.load_state_dict(small.model(positions=positions).state_dict())
    assert torch.equal(longer(small.ids()), small.model(positions=positions)(small.ids()))


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match=r"the text has 12 tokens, but model\.context is 11"):
        small.model()(small.ids(seq=12))


def test_a_text_shorter_than_the_context_is_the_beginning_of_a_longer_one():
    for positions in ("learned", "rope", "none"):
        model = small.model(positions=positions, dtype=torch.float64)
        whole = model(small.ids())[:, :5]
        assert torch.allclose(model(small.ids()[:, :5]), whole, atol=1e-12)


class Doubled(torch.nn.Module):
    """Stands for attention (which is given more) or an MLP; tells what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        self.seen.append(x)
        return 2 * x


class Lessened(torch.nn.Module):
    """Stands for a norm."""

    def forward(self, x: Tensor) -> Tensor:
        return x - 1


@pytest.mark.parametrize(
    ("kind", "seen", "result"),
    [
        (PreNormBlock, [4.0, 12.0], 37.0),  # 5 + 2 (5 - 1) = 13, 13 + 2 (13 - 1)
        (PostNormBlock, [5.0, 14.0], 41.0),  # 5 + 2 * 5 - 1 = 14, 14 + 2 * 14 - 1
    ],
)
def test_a_norm_stands_before_a_part_or_after_the_sum(kind: Any, seen: list[float], result: float):
    attention, mlp = Doubled(), Doubled()
    block = kind(attention, mlp, Lessened(), Lessened(), 0.0)
    assert block(torch.full((1, 1, 1), 5.0), None, None).item() == result
    assert [x.item() for x in (*attention.seen, *mlp.seen)] == seen


def test_only_a_pre_norm_model_has_a_norm_before_the_output():
    names = {name for name, _ in small.model(placement="pre").named_parameters()}
    assert names - {name for name, _ in small.model(placement="post").named_parameters()} == {
        "norm.weight"
    }


def test_post_norm_hidden_states_are_normalised():
    model = small.model(placement="post")
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(parameter)
    assert torch.allclose(model.hidden(small.ids()).square().mean(-1), torch.tensor(1.0), atol=1e-3)


def test_no_norm_has_no_parameters_and_leaves_large_numbers_large():
    model = small.model(norm="none")
    assert not [name for name, _ in model.named_parameters() if "norm" in name]
    x = torch.randn(1, 3, 24) * 100
    assert torch.equal(model.norm(x), x)


def test_tied_matrices_are_one_parameter_with_both_gradients():
    tied, untied = small.model(), small.model(tie_embeddings=False)
    untied.load_state_dict(tied.state_dict())
    assert tied.unembedding.weight is tied.embedding.weight
    assert untied.unembedding.weight is not untied.embedding.weight
    for model in (tied, untied):
        model(small.ids()).logsumexp(-1).sum().backward()
    both = untied.embedding.weight.grad + untied.unembedding.weight.grad  # type: ignore[operator]
    assert torch.allclose(tied.embedding.weight.grad, both, rtol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
def test_biases_are_on_every_linear_layer_and_layernorm_or_on_none(bias: bool):
    model = small.model(norm="layernorm", bias=bias, mlp="swiglu")
    biases = {name.removesuffix(".bias") for name, _ in model.named_parameters() if "bias" in name}
    parts = {"attention.qkv", "attention.output", "mlp.gate", "mlp.up", "mlp.down"}
    parts |= {"attention_norm", "mlp_norm"}
    everywhere = {f"blocks.{layer}.{part}" for layer in range(2) for part in parts} | {"norm"}
    assert biases == (everywhere if bias else set())


def test_bf16_weights_are_cast_where_used_and_kept_in_fp32():
    exact, rounded = small.model(), small.model(dtype=torch.bfloat16)
    logits = rounded(small.ids())
    assert logits.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())
    assert torch.allclose(logits.float(), exact(small.ids()), atol=0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_residual_stream_is_in_the_dtype_of_the_products(dtype: torch.dtype):
    model = small.model(dtype=dtype, positions="learned", norm="layernorm", qk_norm=True)
    seen: list[torch.dtype] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    model.hidden(small.ids())
    assert seen == [dtype] * 2


padded: dict[str, Any] = {"vocab_multiple": 16}


def padded_and_plain(tie_embeddings: bool) -> tuple[Transformer, Transformer]:
    """The same weights with 48 rows and with 37."""
    larger = small.model(dtype=torch.float64, tie_embeddings=tie_embeddings, **padded)
    smaller = small.model(dtype=torch.float64, tie_embeddings=tie_embeddings)
    smaller.load_state_dict(
        {
            name: weight[:37] if "embedding" in name else weight
            for name, weight in larger.state_dict().items()
        }
    )
    return larger, smaller


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_residual_stream_may_be_wider_than_the_products(placement: str):
    entering: list[torch.dtype] = []
    model = small.model(
        dtype=torch.bfloat16, stream_dtype=torch.float32, n_layers=3, placement=placement
    )
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0].dtype))
    hidden = model.hidden(small.ids())
    assert entering == [torch.float32] * 3
    assert hidden.dtype == model(small.ids()).dtype == torch.bfloat16


def test_a_wider_stream_loses_no_small_additions():
    """A thousandth of what is there is less than half a step of bf16."""

    def after_a_block(stream_dtype: torch.dtype | None) -> torch.Tensor:
        model = small.model(
            dtype=torch.bfloat16, stream_dtype=stream_dtype, n_layers=1, norm="none", bias=True
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.embedding.weight.fill_(1.0)
            model.get_parameter("blocks.0.mlp.down.bias").fill_(0.001)
        found: list[torch.Tensor] = []
        model.blocks[0].register_forward_hook(lambda *told: found.append(told[2]))
        model.hidden(small.ids())
        return found[0]

    assert torch.allclose(after_a_block(torch.float32), torch.tensor(1.001), atol=1e-5)
    assert torch.equal(after_a_block(None), torch.ones_like(after_a_block(None)))


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_padding_of_the_vocabulary_changes_neither_loss_nor_gradient(tie_embeddings: bool):
    models = padded_and_plain(tie_embeddings)
    with torch.no_grad():
        for matrix in (models[0].embedding.weight, models[0].unembedding.weight):
            matrix[37:] = 50.0  # even if something filled it
    targets = small.ids().roll(-1, 1)
    targets[:, -1] = not_a_target
    losses = [next_token_loss(model, small.ids(), targets) for model in models]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-13)
    assert torch.allclose(*(model(small.ids()) for model in models), rtol=1e-13)
    for loss in losses:
        loss.backward()
    for (name, larger), smaller in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        gradient = larger.grad
        assert gradient is not None and smaller.grad is not None
        if "embedding" in name:
            assert gradient[37:].eq(0).all()  # exactly: a step leaves the padding alone
            gradient = gradient[:37]
        assert torch.allclose(gradient, smaller.grad, rtol=1e-12, atol=1e-13), name


def test_logits_have_a_column_for_each_token_and_no_more():
    model = small.model(**padded)
    assert model.embedding.weight.shape == (48, 24)
    assert model(small.ids()).shape == (2, 11, 37)
    assert model.logits(torch.randn(24)).shape == (37,)
