"""One of several processes that share a tiny model by PyTorch's own FSDP2, run as a script.

    python rank_of_two.py RANK N_RANKS RENDEZVOUS_FILE

Prints as JSON what this rank holds of each kind after a step of two portions, and what it sent, for
a model whose token matrices are one and for one in which they are two.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

import small
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer

n_portions = 2


def shape(*, tied: bool) -> ModelConfig:
    """No width divides evenly."""
    return small.model_config(
        n_layers=3, d_ff=41, positions="learned", norm="layernorm", bias=True, tie_embeddings=tied
    )


def step(n_ranks: int, sent: list[int], *, tied: bool) -> dict[str, int]:
    sent.clear()
    model = Transformer(shape(tied=tied))
    initialise(model, seed=0)
    mesh = init_device_mesh("cpu", (n_ranks,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    if not tied:
        fully_shard([model.embedding, model.positions], mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "hidden")
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(n_portions):
        next_token_loss(model, small.ids(), small.ids()).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    optimizer.step()
    means = [
        tensor
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    ]
    return {
        "weights": local_bytes(model.parameters()),
        "gradients": local_bytes(gradients),
        "optimizer": local_bytes(means),
        "sent": sum(sent),
    }


def local_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Of this rank's own part."""
    found = 0
    for tensor in tensors:
        assert isinstance(tensor, DTensor)
        found += tensor.to_local().nbytes
    return found


def count_sent(n_ranks: int) -> list[int]:
    """A list that gains what a ring would have a rank send for each collective."""
    sent: list[int] = []

    def counted(collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            tensors = [x for x in (*arguments, *named.values()) if isinstance(x, Tensor)]
            whole = max(tensor.nbytes for tensor in tensors)
            sent.append(whole * (n_ranks - 1) // n_ranks)
            return collective(*arguments, **named)

        return call

    # The last two have these names from PyTorch 2.13 on.
    for name in (
        "all_gather_into_tensor",
        "reduce_scatter_tensor",
        "all_gather_single",
        "reduce_scatter_single",
    ):
        if hasattr(dist, name):
            setattr(dist, name, counted(getattr(dist, name)))
    return sent


def main(rank: int, n_ranks: int, rendezvous: str) -> dict[str, dict[str, int]]:
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=n_ranks
    )
    sent = count_sent(n_ranks)
    found = {name: step(n_ranks, sent, tied=name == "one") for name in ("one", "two")}
    dist.destroy_process_group()
    return found


if __name__ == "__main__":
    _, rank, n_ranks, rendezvous = sys.argv
    sys.stdout.write(json.dumps(main(int(rank), int(n_ranks), rendezvous)) + "\n")
