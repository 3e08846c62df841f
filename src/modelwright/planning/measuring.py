"""What a step takes in reality: the same step on the device, with numbers in its tensors."""

import gc
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from modelwright.data.loader import Batch
from modelwright.model.config import ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.planning.step import Site, fake_batch
from modelwright.training.assembly import set_way_of_working, stream_dtype
from modelwright.training.averaging import Average
from modelwright.training.capture import RecordedStep
from modelwright.training.choices import records_step
from modelwright.training.config import RunConfig
from modelwright.training.lanes import Lanes
from modelwright.training.optimizers import make_optimizer
from modelwright.training.step import training_step


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a step took.

    Attributes:
        peak_bytes: the most in tensors.
        reserved_bytes: the most that PyTorch held of a GPU; None on a CPU.
        outside_bytes: what of a GPU was taken outside of PyTorch: the CUDA context and libraries.
        step_seconds: of a step after the first, several times.
        first_step_seconds: with whatever was compiled or loaded for it.
        n_parameters: of the model, without what pads its token matrices.
        saved_bytes: of the tensors that a checkpoint keeps.
    """

    peak_bytes: int
    reserved_bytes: int | None
    outside_bytes: int | None
    step_seconds: list[float]
    first_step_seconds: float
    n_parameters: int = 0
    saved_bytes: int = 0


class RealStep:
    """A run's step on random tokens; the data does not change what it takes."""

    def __init__(self, config: RunConfig, shape: ModelConfig, site: Site) -> None:
        self.config = config
        self.site = site
        self.device = torch.device(site.device)
        model = Transformer(
            shape, dtype=site.dtype, stream_dtype=stream_dtype(config), attention=site.attention
        ).to(self.device)
        generator = torch.Generator(self.device).manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.02, generator=generator)
        set_way_of_working(model, config, in_lanes=site.n_lanes > 1, is_compiled=site.is_compiled)
        self.model = model
        self.optimizer = make_optimizer(model, config.optimizer, width_ratio=config.width_ratio)
        decay = config.training.average_decay
        self.average = Average(model, decay) if decay else None
        self.lanes = Lanes(site.n_lanes)
        self.gate = torch.zeros((), device=self.device)
        is_recorded = records_step(config, site.device, shape)
        self.recorded = RecordedStep(model, self.optimizer) if is_recorded else None
        self.batch = self._batch(shape)

    def _batch(self, shape: ModelConfig) -> Batch:
        packed = self.config.training.cut == "packed"
        batch = fake_batch(self.config.batch_size, shape.context, packed=packed)
        for tensor in (batch.inputs, batch.targets):
            tensor.random_(0, shape.known_vocab)
        if batch.documents is not None and batch.positions is not None:
            batch.documents.zero_()
            batch.positions.copy_(torch.arange(shape.context))

        def there(tensor: Any) -> Any:
            return None if tensor is None else tensor.to(self.device)

        return Batch(
            there(batch.inputs),
            there(batch.targets),
            batch.samples,
            there(batch.positions),
            there(batch.documents),
            batch.targets.numel(),
        )

    @property
    def n_parameters(self) -> int:
        """All that is trained, without what pads the token matrices."""
        model = self.model
        of_tokens = {model.embedding.weight, model.unembedding.weight}  # one, if it is shared
        n_rows = model.config.padded_vocab - model.config.known_vocab
        n_padding = n_rows * sum(matrix.shape[1] for matrix in of_tokens)
        return sum(p.numel() for p in model.parameters()) - n_padding

    @property
    def saved_bytes(self) -> int:
        """What a checkpoint would keep of it."""
        average = self.average.weights.values() if self.average else ()
        state = self.optimizer.named_state().values()
        return sum(x.nbytes for x in (*self.model.parameters(), *state, *average))

    def take(self) -> float:
        """Take a step.

        Returns:
            The seconds it took.
        """
        return self.take_many(1)

    def take_many(self, n_steps: int) -> float:
        """Take steps, each started as soon as the one before it is, as a run does.

        Returns:
            The seconds that all of them took.
        """
        began = time.perf_counter()
        for _ in range(n_steps):
            self._start()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _start(self) -> None:
        settings: dict[str, Any] = {
            "learning_rate": 1e-4,
            "clip_norm": self.config.optimizer.clip_norm,
            "micro_batch": self.site.micro_batch,
            "loss_scale": 2.0**10 if self.site.dtype == torch.float16 else 1.0,
            "loss_limit": math.inf,
            "lanes": self.lanes,
            "gate": self.gate,
        }
        if self.recorded is not None:
            found = self.recorded(self.batch, **settings)
        else:
            seed = 1 if self.config.model.dropout else None
            found = training_step(
                self.model, self.optimizer, self.batch, dropout_seed=seed, **settings
            )
        if self.average is not None:
            self.average.update(self.model, found[2])


n_in_a_row = 4  # steps of which each is started before the one before it is done


def measure_on_gpu(config: RunConfig, shape: ModelConfig, site: Site, *, n_steps: int) -> Measured:
    """Take some steps on the GPU of this process and see what they take.

    Args:
        n_steps: how many times to take a few in a row, as a run does.

    Raises:
        OutOfMemoryError: if it does not fit.
    """
    gc.collect()
    torch.cuda.empty_cache()
    torch.compiler.reset()
    torch.cuda.reset_peak_memory_stats()
    step = RealStep(config, shape, site)
    first = step.take()
    torch.cuda.reset_peak_memory_stats()
    seconds = [step.take_many(n_in_a_row) / n_in_a_row for _ in range(n_steps)]
    free, total = torch.cuda.mem_get_info()
    return Measured(
        peak_bytes=torch.cuda.max_memory_allocated(),
        reserved_bytes=torch.cuda.max_memory_reserved(),
        outside_bytes=total - free - torch.cuda.memory_reserved(),
        step_seconds=seconds,
        first_step_seconds=first,
        n_parameters=step.n_parameters,
        saved_bytes=step.saved_bytes,
    )


def measure_on_cpu(config: RunConfig, shape: ModelConfig, site: Site) -> Measured:
    """Take a step on the processor with every allocation of a tensor on record."""
    step = RealStep(config, shape, site)
    first = step.take()
    held = [
        *step.model.parameters(),
        *step.model.buffers(),
        *step.optimizer.named_state().values(),
        *(step.average.weights.values() if step.average else ()),
        *step.batch.tensors(),
    ]
    before = sum(
        {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held}.values()
    )
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step.take()
    return Measured(
        peak_bytes=before + _most_added(profile),
        reserved_bytes=None,
        outside_bytes=None,
        step_seconds=[step.take() for _ in range(3)],
        first_step_seconds=first,
        n_parameters=step.n_parameters,
        saved_bytes=step.saved_bytes,
    )


def _most_added(profile: Any) -> int:
    """The most bytes that were held at a moment beyond those of the beginning."""
    now = most = 0
    kineto = profile.profiler.kineto_results
    changes = [(e.start_ns(), e.nbytes()) for e in kineto.events() if e.name() == "[memory]"]
    for _, n_bytes in sorted(changes, key=lambda change: change[0]):
        now += n_bytes
        most = max(most, now)
    return most


def count_flops(config: RunConfig, shape: ModelConfig) -> int:
    """The matrix products that a run's step needs, as PyTorch counts them when they are called.

    Those of one sequence on tensors without numbers, with an attention that computes nothing twice.
    """
    ids = fake_batch(1, shape.context, packed=False).inputs
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flops})
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = Transformer(replace(shape, dropout=0.0), attention="plain")
        with counter:
            next_token_loss(model, ids, ids).backward()
    return config.batch_size * counter.get_total_flops()


def _addmm_flops(_total: Any, left: Any, right: Any, **_: Any) -> int:
    """Of the product that is added in place, which the counter does not know."""
    return 2 * left[0] * left[1] * right[1]
