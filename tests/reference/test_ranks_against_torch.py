"""A rank's memory, cut from the trace of a step, against PyTorch's own tracker of FSDP2."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import small
import traced
from modelwright.accounting.sharing import Sharing
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.planning.rank_memory import rank_lines
from modelwright.training.config import RunConfig

n_ranks = 4
Found = dict[str, int]


class HiddenStates(Transformer):
    """A model that is called for its hidden states, as the tracker wants its outermost module."""

    def forward(self, ids: Tensor) -> Tensor:
        return Transformer.hidden(self, ids)

    def hidden(self, ids: Tensor, **_: object) -> Tensor:
        return self(ids)


@pytest.fixture
def four_ranks() -> Iterator[None]:
    """A group of ranks of which there is only this one."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=n_ranks)
    yield
    dist.destroy_process_group()


def tracked(run: RunConfig) -> Found:
    """What the tracker finds at the peak of a second step."""
    model = HiddenStates(run.model, attention="plain")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    mesh = init_device_mesh("cpu", (n_ranks,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    if not run.model.tie_embeddings:
        fully_shard(model.embedding, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    ids = small.ids(batch=run.batch_size, seq=traced.context, n_vocab=run.model.known_vocab)
    tracker = FSDPMemTracker(model, optimizer)
    with tracker:
        for _ in range(2):
            next_token_loss(model, ids, ids).backward()
            optimizer.step()
            optimizer.zero_grad()
            last = copy.deepcopy(tracker.get_tracker_snapshot("peak"))
            tracker.reset_mod_stats()
    (found,) = last.values()
    return {str(getattr(kind, "name", kind)): n_bytes for kind, n_bytes in found.items()}


@pytest.mark.parametrize("tied", [True, False])
def test_the_peak_of_an_fsdp_rank_is_that_of_the_tracker(four_ranks: None, tied: bool):
    run = traced.run_config(
        "optimizer.clip_norm=0.0",
        f"model.tie_embeddings={str(tied).lower()}",
        "model.d_model=192",
        "model.d_ff=512",
        "model.n_layers=5",
    )
    site = traced.site()
    lines = rank_lines(
        traced.trace_step(run, run.model, site).trace,
        run.model,
        Sharing(stage=3, n_ranks=n_ranks),
        n_portions=1,
        batch_bytes=0,
        rounding=1,
    )
    expected = tracked(run)
    whole = np.sum(list(lines.values()), axis=0)
    at = int(whole.argmax())
    assert lines["weights"][at] == expected["SHARDED_PARAM"] + expected["BUFFER"]
    # Their AdamW counts steps for each tensor, and ours once.
    n_tensors = len(list(HiddenStates(run.model, attention="plain").parameters()))
    assert lines["optimizer"][at] == expected["OPT"] - 4 * (n_tensors - 1)
    assert lines["reduced"][at] == expected["REDUCE_SCATTER"]
    assert lines["gathered"][at] == expected["UNSHARDED_PARAM"] + expected["ALL_GATHER"]
    # A unit's last gradient and its buffer are there one after the other, and ours together.
    assert whole[at] == pytest.approx(expected["Total"], rel=0.02)
