"""The trainer's own step, followed on tensors that hold no numbers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from modelwright.accounting.trace import Trace
from modelwright.accounting.tracing import Tracer
from modelwright.data.loader import Batch
from modelwright.model.block_kernels import use_block_kernels
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.cross_entropy import usual_chunk
from modelwright.model.fp8 import use_fp8
from modelwright.model.gpu_kernels import Kernels
from modelwright.model.transformer import Transformer
from modelwright.planning.compiled import compile_for_trace
from modelwright.planning.gpu_operations import (
    gpu_scratch,
    turned_in_place,
    update_as_on_gpu,
    work_as_on_gpu,
)
from modelwright.training.assembly import set_way_of_working, stream_dtype
from modelwright.training.averaging import Average
from modelwright.training.choices import settled_recompute
from modelwright.training.config import RunConfig
from modelwright.training.lanes import Lanes, LossOf, Portion
from modelwright.training.optimizers import OptimizerConfig
from modelwright.training.step import training_step
from modelwright.training.updates import Optimizer


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a step runs and what "auto" comes to there.

    Attributes:
        micro_batch: sequences that go through the model at once.
        n_lanes: portions at the same time.
        n_batches: on the device: the one at work, and on a GPU those that the loader has ready.
        capability: of a GPU, as CUDA numbers it.
        kernels: whose kernels a GPU uses.
    """

    device: Literal["cpu", "cuda"]
    dtype: torch.dtype
    attention: AttentionKind
    is_compiled: bool
    micro_batch: int
    n_lanes: int = 1
    n_batches: int = 1
    capability: tuple[int, int] | None = None
    kernels: Kernels = "torch"


@dataclass(frozen=True)
class StepTrace:
    """A step as it was followed.

    Attributes:
        trace: of a step of at most two portions for each lane; a third adds nothing to its peak.
        n_portions: how many portions the whole step has, and how many were followed.
        n_followed: see there.
        n_lanes: how many portions each followed one stands for.
        saved_bytes: of the tensors that a checkpoint keeps.
    """

    trace: Trace
    n_portions: int
    n_followed: int
    n_lanes: int = 1
    saved_bytes: int = 0


def trace_step(config: RunConfig, shape: ModelConfig, site: Site) -> StepTrace:
    """Follow a step of a run after its first one, on tensors that hold no numbers.

    Args:
        shape: the run's model with its vocabulary.
    """
    n_portions = -(-config.batch_size // site.micro_batch)
    n_followed = min(n_portions, 2) if site.n_lanes == 1 else min(n_portions, 2 * site.n_lanes)
    n_sequences = min(config.batch_size, n_followed * site.micro_batch)
    on_gpu = site.device == "cuda"
    tracer = Tracer(
        rounding=512 if on_gpu else 1,
        scratch=gpu_scratch(site.capability) if on_gpu else _none,
    )
    with ExitStack() as modes:
        modes.enter_context(FakeTensorMode())
        model = traced_model(config, shape, site, tracer)
        optimizer = WatchedOptimizer(
            model, config.optimizer, tracer, width_ratio=config.width_ratio
        )
        optimizer.make_state()
        if site.kernels == "triton":
            update_as_on_gpu(optimizer, tracer)
        decay = config.training.average_decay
        average = Average(model, decay) if decay else None
        batch = fake_batch(
            n_sequences, config.model.context, packed=config.training.cut == "packed"
        )
        tracer.hold(model.parameters(), "weights")
        tracer.hold(model.buffers(), "weights")
        tracer.hold(optimizer.named_state().values(), "optimizer")
        if average is not None:
            tracer.hold(average.weights.values(), "average")
        averages = () if average is None else average.weights.values()
        saved = (*model.parameters(), *optimizer.named_state().values(), *averages)
        saved_bytes = sum(tensor.nbytes for tensor in saved)
        _hold_batches(tracer, config, batch, site.n_batches)
        modes.enter_context(tracer.watching(model))
        modes.enter_context(_told_apart(model, tracer))
        found = training_step(
            model,
            optimizer,
            batch,
            learning_rate=1e-3,
            clip_norm=config.optimizer.clip_norm,
            micro_batch=site.micro_batch,
            loss_scale=2.0**16 if site.dtype == torch.float16 else 1.0,
            dropout_seed=1 if shape.dropout else None,
            lanes=LanesInTurn(site.n_lanes, tracer),
        )
        if average is not None:
            with tracer.during("update"):
                average.update(model, found[2])
        trace = tracer.finish()
    n_lanes = min(site.n_lanes, n_portions)
    return StepTrace(trace, n_portions, n_followed, n_lanes, saved_bytes)


def traced_model(config: RunConfig, shape: ModelConfig, site: Site, tracer: Tracer) -> Transformer:
    """The run's model without numbers."""
    model = Transformer(
        shape, dtype=site.dtype, stream_dtype=stream_dtype(config), attention=site.attention
    )
    if site.is_compiled and config.training.fp8:
        use_fp8(model)
    if site.kernels == "triton":
        use_block_kernels(model, is_compiled=site.is_compiled)
    if site.device == "cuda":
        work_as_on_gpu(model, site.attention, tracer, is_compiled=site.is_compiled)
    if site.is_compiled:
        every = config.training.recompute_every
        compile_for_trace(model, tracer, recompute=settled_recompute(config), every=every)
    else:
        set_way_of_working(model, config, in_lanes=site.n_lanes > 1, is_compiled=False)
    in_place = None
    if site.kernels == "triton":
        model.slope_of, in_place = partial(turned_in_place, tracer), site.dtype
    model.loss_chunk = usual_chunk(site.device, shape.padded_vocab, in_place=in_place)
    if config.training.loss_chunk != "auto":
        model.loss_chunk = config.training.loss_chunk
    return model


def fake_batch(n_sequences: int, context: int, *, packed: bool) -> Batch:
    """A batch of a shape."""
    inputs, targets = (torch.empty(n_sequences, context, dtype=torch.int64) for _ in range(2))
    positions, documents = (torch.empty_like(inputs, dtype=torch.int32) for _ in range(2))
    return Batch(
        inputs,
        targets,
        np.arange(n_sequences),
        positions if packed else None,
        documents if packed else None,
    )


def _hold_batches(tracer: Tracer, config: RunConfig, batch: Batch, n_batches: int) -> None:
    """The batches that wait on the device, besides what of the present one is followed."""
    tensors = batch.tensors()
    tracer.hold(tensors, "batches")
    followed = sum(tensor.nbytes for tensor in tensors)
    whole = followed * config.batch_size // len(batch.inputs)
    n_bytes = n_batches * whole - followed
    if n_bytes > 0:
        tracer.hold_bytes(n_bytes, "batches")


class WatchedOptimizer(Optimizer):
    """An optimizer whose work is named in the trace, and before which the gradients are known."""

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        tracer: Tracer,
        *,
        width_ratio: float = 1.0,
    ) -> None:
        super().__init__(model, config, width_ratio=width_ratio)
        self.model = model
        self.tracer = tracer

    def make_state(self) -> None:
        """Make what is kept from step to step, as the first step does."""
        for parameter in self.model.parameters():
            parameter.grad = torch.empty_like(parameter)
        super().step(0.0)
        self.zero_grad()

    def step(
        self,
        learning_rate: float | Tensor,
        *,
        divisor: Tensor | None = None,
        void: Tensor | None = None,
    ) -> None:
        """The optimizer's step."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.tracer.hold(gradients, "gradients")
        with self.tracer.during("update"):
            super().step(learning_rate, divisor=divisor, void=void)


class LanesInTurn(Lanes):
    """Lanes that are followed one after the other, and counted as side by side."""

    def __init__(self, n_lanes: int, tracer: Tracer) -> None:
        super().__init__(1)
        self.n_followed_lanes = n_lanes
        self.tracer = tracer

    def accumulate(
        self, model: nn.Module, portions: Sequence[Portion], loss_of: LossOf[Portion]
    ) -> Tensor:
        """The gradients of one lane's portions stand for those of all."""
        n_lanes = min(self.n_followed_lanes, len(portions))
        if n_lanes == 1:
            return super().accumulate(model, portions, loss_of)
        parameters = list(model.parameters())
        self.tracer.copies = n_lanes
        total = None
        for number, portion in list(enumerate(portions))[::n_lanes]:
            loss = loss_of(number, portion)
            gradients = list(torch.autograd.grad(loss, parameters, materialize_grads=True))
            if total is None:
                total = gradients
            else:
                torch._foreach_add_(total, gradients)  # pyright: ignore[reportPrivateImportUsage]
            loss = loss.detach()
            del gradients
        assert total is not None
        self.tracer.keep_one_copy(total)
        self.tracer.copies = 1
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return loss


@contextmanager
def _told_apart(model: Transformer, tracer: Tracer) -> Iterator[None]:
    """Name the parts of a step: what comes after the last norm is the loss, then the clipping."""

    def begins(_module: nn.Module, _inputs: Any) -> None:
        tracer.phase = "forward"

    def ends(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        tracer.phase = "loss"

    hooks = [
        model.embedding.register_forward_pre_hook(begins),
        model.norm.register_forward_hook(ends),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _none(_operation: Any, _inputs: Sequence[Any]) -> int:
    return 0
