from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.model.config import AttentionKind

kinds: list[AttentionKind] = ["plain", "math"]  # the fused kernel of a CPU has no dropout


@pytest.mark.parametrize("attention", kinds)
def test_dropout_is_at_work_in_training_alone(attention: AttentionKind):
    without, model = (small.model(attention=attention, dropout=p) for p in (0.0, 0.3))
    expected = without(small.ids())
    assert not torch.allclose(model(small.ids()), expected, atol=0.1)
    assert torch.equal(model.eval()(small.ids()), expected)
    assert not torch.allclose(model.train()(small.ids()), expected, atol=0.1)


@pytest.mark.parametrize("attention", kinds)
def test_dropout_follows_the_global_seed(attention: AttentionKind):
    model = small.model(attention=attention, dropout=0.3)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(small.ids())

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_nothing_is_drawn_without_dropout():
    model = small.model()
    before = torch.get_rng_state()
    model(small.ids())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_embedding_and_what_is_added_to_the_stream_are_dropped(placement: str):
    model = small.model(d_model=240, dropout=0.25, context=64, placement=placement)
    added: list[Tensor] = []
    before: list[Tensor] = []
    after: list[Tensor] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda _module, inputs, output: before.append(inputs[0]) or after.append(output)
            )
        elif name == "positions" or name.endswith(("attention", "mlp")):
            module.register_forward_hook(lambda _module, _inputs, output: added.append(output))
    torch.manual_seed(0)
    model(small.ids(seq=64))
    assert len(after) == 1 + 2 * model.config.n_layers
    for made, entered, left in zip(added, before, after, strict=True):
        assert entered is made
        kept = left != 0
        assert torch.allclose(left[kept], entered[kept] / 0.75)
        assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("attention", kinds)
def test_attention_weights_are_dropped_too(attention: AttentionKind):
    model = small.model(attention=attention, dropout=0.3)
    x, attend = torch.randn(2, 11, 24), model.blocks[0].attention
    arguments: Any = (x, model.turns(11, None, torch.float32), None)
    trained = attend.train()(*arguments)  # type: ignore[operator]
    assert not torch.allclose(trained, attend.eval()(*arguments), atol=1e-2)  # type: ignore[operator]
