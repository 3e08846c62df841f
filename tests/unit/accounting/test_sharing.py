import pytest
import torch

import small
from modelwright.accounting.parameters import count_parameters, tensor_counts
from modelwright.accounting.sharing import (
    Sharing,
    Stage,
    data_sent_bytes,
    largest_share,
    least_seconds,
    sharing_units,
    state_bytes,
    tensor_degrees,
    tensor_part,
    tensor_sent_bytes,
)
from modelwright.model.transformer import Transformer

stages: tuple[Stage, ...] = (0, 1, 2, 3)


def meta_model(**changes: object) -> Transformer:
    with torch.device("meta"):
        return Transformer(small.model_config(**changes))


@pytest.mark.parametrize("stage, gigabytes", [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_example_of_the_zero_paper(stage: Stage, gigabytes: float):
    # Rajbhandari et al. 2020, figure 1: 7.5 billion parameters, 64 GPUs, Adam in mixed precision.
    held = state_bytes(
        [(7_500_000_000,)],
        Sharing(stage=stage, n_ranks=64),
        weight=2,
        gradient=2,
        n_optimizer=3,  # the weights in fp32, and two means
    )
    assert sum(held.values()) / 1e9 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (37, 24), (3, 5, 2)])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 8, 9])
def test_the_first_of_chunks_is_the_largest_share(shape: tuple[int, ...], n_parts: int):
    tensor = torch.empty(shape, device="meta")
    chunks = torch.chunk(tensor, n_parts) if shape else (tensor,)
    assert largest_share(shape, n_parts) == max(chunk.numel() for chunk in chunks)
    assert largest_share(shape, n_parts) == chunks[0].numel()


@pytest.mark.parametrize("stage", stages)
@pytest.mark.parametrize("tied", [True, False])
def test_a_rank_holds_the_first_chunk_of_what_its_stage_divides(stage: Stage, tied: bool):
    model = meta_model(tie_embeddings=tied, bias=True, norm="layernorm", positions="learned")
    whole = [parameter.numel() for parameter in model.parameters()]
    first = [torch.chunk(parameter, 5)[0].numel() for parameter in model.parameters()]
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert state_bytes(shapes, Sharing(stage=stage, n_ranks=5)) == {
        "weights": 4 * sum(first if stage >= 3 else whole),
        "gradients": 4 * sum(first if stage >= 2 else whole),
        "optimizer": 8 * sum(first if stage >= 1 else whole),
    }


def test_each_tensor_takes_a_multiple_of_the_rounding():
    held = state_bytes([(3,), (200,)], Sharing(stage=3, n_ranks=2), rounding=512)
    assert held == {"weights": 1024, "gradients": 1024, "optimizer": 2048}


def test_other_kinds_are_divided_by_the_portions_alone():
    everything = Sharing(stage=3, n_ranks=8)
    assert everything.n_parts("average") == 8
    assert [everything.n_parts(kind) for kind in ("activations", "loss", "batches")] == [1, 1, 1]
    assert Sharing(stage=3, n_ranks=8, n_tensor=2).n_parts("weights") == 4


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_units_have_each_parameter_once(tied: bool, placement: str):
    config = small.model_config(tie_embeddings=tied, placement=placement, bias=True)
    units = sharing_units(config)
    found = sorted(shape for unit in units for shape in unit.shapes)
    assert found == sorted(one.shape for one in tensor_counts(config))
    assert len(units) == config.n_layers + (1 if tied else 2)
    assert [unit.name for unit in units if unit.stays] == ["outside"]


def test_the_buffer_of_a_unit_has_as_many_rows_for_each_rank():
    model = meta_model(d_ff=41)
    block = sharing_units(model.config)[1]
    parameters = list(model.blocks[0].parameters())
    assert block.whole_bytes == 4 * sum(one.numel() for one in parameters)
    assert block.padded_bytes(3) == 3 * 4 * sum(
        torch.chunk(one, 3)[0].numel() for one in parameters
    )
    assert block.padded_bytes(3) > block.whole_bytes


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_tensor_parallel_parts_make_the_whole_model(mlp: str):
    config = small.model_config(
        mlp=mlp, n_layers=1, bias=True, norm="layernorm", tie_embeddings=False, vocab_size=36
    )
    whole = {one.name: one.shape for one in tensor_counts(config)}
    part = {one.name: one.shape for one in tensor_counts(tensor_part(config, 2))}
    rows = ("qkv.weight", "qkv.bias", "up.weight", "up.bias", "gate.weight", "gate.bias")
    rows += ("embedding.weight",)
    columns = ("attention.output.weight", "down.weight")
    assert whole.keys() == part.keys()
    for name, (n_rows, *others) in whole.items():
        if name.endswith(rows):
            assert part[name] == (n_rows // 2, *others)
        elif name.endswith(columns):
            assert part[name] == (n_rows, others[0] // 2)
        else:
            assert part[name] == (n_rows, *others)


def test_a_vocabulary_that_does_not_divide_is_rounded_up():
    assert tensor_part(small.model_config(vocab_size=37), 2).padded_vocab == 19


def test_one_tensor_parallel_rank_has_the_whole_model():
    config = small.model_config()
    assert count_parameters(tensor_part(config, 1)) == count_parameters(config)


def test_a_degree_that_does_not_divide_the_heads_names_those_that_do():
    config = small.model_config(n_heads=12, n_kv_heads=6, d_ff=40)
    assert tensor_degrees(config) == [1, 2]
    with pytest.raises(ValueError, match=r"model\.n_kv_heads is 6, .* among any of \[1, 2\]"):
        tensor_part(config, 4)
    with pytest.raises(ValueError, match=r"model\.n_heads is 12, which does not divide among 5 "):
        tensor_part(config, 5)
    with pytest.raises(ValueError, match=r"model\.d_ff is 40, which does not divide among 3 "):
        tensor_part(config, 3)


def ring_all_reduce(n_ranks: int, n_numbers: int) -> int:
    """Numbers that the first rank sends when a sum goes round, one part at a time."""
    parts = [list(range(n_numbers))[rank::n_ranks] for rank in range(n_ranks)]
    sums, sent = n_ranks - 1, 0  # rounds in which partial sums pass on
    for turn in range(2 * sums):  # and as many in which the finished ones do
        sent += len(parts[-turn % n_ranks])
    return sent


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
def test_data_parallel_ranks_send_what_a_ring_does(n_ranks: int):
    config = small.model_config(vocab_size=48)
    n_numbers = count_parameters(config).total
    assert n_numbers % n_ranks == 0
    sent = data_sent_bytes(config, Sharing(stage=0, n_ranks=n_ranks), n_portions=3)
    assert sent == 4 * ring_all_reduce(n_ranks, n_numbers)


def test_zero_sends_two_or_three_times_the_parameters():
    # Rajbhandari et al. 2020, section 7: 2 Ψ up to ZeRO-2, and 3 Ψ for ZeRO-3; of these each rank
    # has its own part already. What is outside the blocks is gathered once.
    config = small.model_config(vocab_size=48)
    n_parameters = count_parameters(config).total
    outside = sharing_units(config)[-1].whole_bytes // 4
    for stage, numbers in zip(stages[1:], (2, 2, 3), strict=True):
        sent = data_sent_bytes(config, Sharing(stage=stage, n_ranks=4), n_portions=1)
        once = outside if stage == 3 else 0
        assert sent == 3 / 4 * 4 * (numbers * n_parameters - once)


@pytest.mark.parametrize("stage, times", [(0, 1), (1, 1), (2, 4 / 2), (3, 3)])
def test_what_is_divided_by_portion_is_sent_by_portion(stage: Stage, times: float):
    config, sharing = small.model_config(), Sharing(stage=stage, n_ranks=4)
    one = data_sent_bytes(config, sharing, n_portions=1)
    assert data_sent_bytes(config, sharing, n_portions=3) == times * one


def test_a_rank_alone_sends_nothing():
    config, alone = small.model_config(), Sharing(stage=0, n_ranks=1)
    assert data_sent_bytes(config, alone, n_portions=3) == 0
    assert tensor_sent_bytes(config, alone, n_tokens=22, activation_bytes=2) == 0


def test_a_block_adds_up_four_streams_and_two_more_if_it_forgets():
    sharing = Sharing(stage=0, n_ranks=2, n_tensor=2)

    def sent(n_layers: int, n_again: int = 0) -> int:
        return tensor_sent_bytes(
            small.model_config(n_layers=n_layers),
            sharing,
            n_tokens=22,
            activation_bytes=2,
            n_blocks_again=n_again,
        )

    stream = 2 * 22 * 24 * 1 // 2 * 2  # 2 (n - 1) / n of it, in 16 bits
    assert sent(3) - sent(2) == 4 * stream
    assert sent(2, n_again=2) - sent(2) == 2 * 2 * stream
    assert sent(1) == (4 + 2) * stream + 3 * 22 * 4


def test_sending_has_one_direction_of_the_links():
    assert least_seconds(450, 900.0) == 1.0
    assert least_seconds(450, None) is None


def test_ways_are_called_what_people_call_them():
    names = [Sharing(stage=stage, n_ranks=8).name for stage in stages]
    assert names == ["data parallel", "ZeRO-1", "ZeRO-2", "FSDP"]
    assert Sharing(stage=0, n_ranks=8, n_tensor=8).name == "tensor parallel 8"
    assert Sharing(stage=3, n_ranks=8, n_tensor=2).name == "FSDP 4 x tensor 2"
