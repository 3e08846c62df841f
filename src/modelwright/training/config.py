"""Everything that decides a run, in one place."""

from typing import Literal

from modelwright.config.schema import settings
from modelwright.data.config import DataConfig
from modelwright.generation.config import SamplingConfig
from modelwright.model.config import ModelConfig
from modelwright.runtime.device import DeviceChoice, PrecisionChoice
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.training.optimizers import OptimizerConfig
from modelwright.training.schedules import ScheduleConfig


@settings
class TrainingConfig:
    """How long to train, in what portions, and on what."""

    n_steps: int = 500
    """Number of updates."""
    batch_tokens: int = 4096
    """Tokens that each update learns from."""
    micro_batch: int = 16
    """Sequences that go through the model at once; changes the memory, not what is learned."""
    device: DeviceChoice = "auto"
    """Where to train; auto takes a CUDA GPU if there is one."""
    precision: PrecisionChoice = "auto"
    """Number format of the matrix products; auto takes bf16 where the hardware has it."""
    attention: Literal["auto", "fused", "plain"] = "auto"
    """How attention is computed; auto takes the faster one for the device and precision."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_tokens", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; the least is 1")


@settings
class EvaluationConfig:
    """When and on how much text the validation loss is measured."""

    every_steps: int = 50
    """Steps from one measurement to the next; the first and the last step are always measured."""
    n_tokens: int = 32_768
    """Validation tokens that each measurement reads, always the first ones; 0 reads all."""

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"evaluation.every_steps is {self.every_steps}; the least is 1")
        if self.n_tokens < 0:
            raise ValueError(
                f"evaluation.n_tokens is {self.n_tokens}; the least is 1, and 0 reads all there are"
            )


@settings
class SamplesConfig:
    """What the model writes during training, to be read beside the curves."""

    every_steps: int = 100
    """Steps from one set of samples to the next; the first and the last step always write."""
    prompts: tuple[str, ...] = ("Once upon a time",)
    """How each sample begins; an empty prompt lets the model begin by itself."""
    n_samples: int = 1
    """Samples for each prompt."""
    max_tokens: int = 200
    """Longest sample."""
    sampling: SamplingConfig = SamplingConfig()
    """How each next token is drawn."""

    def __post_init__(self) -> None:
        for name in ("every_steps", "n_samples", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"samples.{name} is {getattr(self, name)}; the least is 1")


@settings
class CheckpointsConfig:
    """When the state is saved and how many of the saved states stay."""

    every_steps: int = 250
    """Steps from one checkpoint to the next; the last step is always saved."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""

    def __post_init__(self) -> None:
        for name in ("every_steps", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"checkpoints.{name} is {getattr(self, name)}; the least is 1")


@settings
class RunConfig:
    """One run: its text, tokenizer, model, training and what is observed on the way."""

    seed: int = 1
    """Feeds separate streams for weights, data order and sampling."""
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    samples: SamplesConfig = SamplesConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()

    def __post_init__(self) -> None:
        context, batch_tokens = self.model.context, self.training.batch_tokens
        if batch_tokens % context:
            nearest = max(1, round(batch_tokens / context)) * context
            raise ValueError(
                f"training.batch_tokens is {batch_tokens}, which is not a whole number of "
                f"contexts of model.context = {context} tokens; the nearest that is, is {nearest}"
            )
        vocab_size = self.model.vocab_size
        if vocab_size is not None and vocab_size < self.tokenizer.vocab_size:
            raise ValueError(
                f"model.vocab_size is {vocab_size}, less than tokenizer.vocab_size = "
                f"{self.tokenizer.vocab_size}; leave it out, or set at least as much"
            )

    @property
    def batch_size(self) -> int:
        """Sequences that each update learns from."""
        return self.training.batch_tokens // self.model.context

    @property
    def n_tokens(self) -> int:
        """Tokens that the whole run learns from, repetitions counted."""
        return self.training.batch_tokens * self.training.n_steps
