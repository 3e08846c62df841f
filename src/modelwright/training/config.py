"""Everything that decides a run, in one place."""

from typing import Literal

from modelwright.config.schema import settings
from modelwright.data.config import DataConfig
from modelwright.evaluation.tasks import tasks_named
from modelwright.generation.config import SamplingConfig
from modelwright.model.config import AttentionKind, InitialConfig, ModelConfig
from modelwright.runtime.device import DeviceChoice, PrecisionChoice
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.training.optimizers import OptimizerConfig
from modelwright.training.policies import PoliciesConfig
from modelwright.training.schedules import ScheduleConfig


@settings
class TrainingConfig:
    """How long to train, in what portions, and on what."""

    n_steps: int = 500
    """Number of updates."""
    batch_tokens: int = 4096
    """Tokens that each update learns from."""
    micro_batch: int | Literal["auto"] = "auto"
    """Sequences that go through the model at once; changes the memory, not what is learned. auto
    begins with what suits the device and halves whenever it does not fit."""
    lanes: int | Literal["auto"] = "auto"
    """How many portions of a batch are worked on at the same time, each on processor cores of its
    own; auto takes one for each core of a CPU, and one on a GPU."""
    cut: Literal["contiguous", "packed"] = "contiguous"
    """How documents become samples: the text cut anywhere, or whole documents packed into rows, in
    which none sees another and positions begin anew."""
    init_from: str | None = None
    """A run or checkpoint whose weights, model and tokenizer to begin with; fine-tuning."""
    device: DeviceChoice = "auto"
    """Where to train; auto takes a CUDA GPU if there is one."""
    precision: PrecisionChoice = "auto"
    """Number format of the matrix products; auto takes bf16 where the hardware has it, else fp16 on
    a GPU. Weights are fp32 in all of them."""
    residual: Literal["products", "fp32"] = "products"
    """Number format of the stream that blocks add to: that of the products, or fp32, in which small
    additions are not rounded away, for twice the memory and traffic between the blocks."""
    attention: Literal["auto"] | AttentionKind = "auto"
    """How attention is computed: as the equation has it, in stripes for processors, or by one of
    PyTorch's kernels; auto takes the fastest that works, and the run's record names it."""
    compile: bool | Literal["auto"] = "auto"
    """Whether torch.compile makes programs of the blocks; auto does on a GPU. On a CPU it takes
    half a minute and a C++ compiler."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """Whether a GPU repeats a recording of the whole step instead of being asked for each kernel;
    auto does unless a step is so long that it makes no difference. Not with dropout."""
    recompute: Literal["none", "blocks", "selective", "auto"] = "none"
    """What is forgotten on the way forward and computed again on the way back, to save memory:
    nothing, all inside a block, or all but matrix products and attention. auto lets the plan find
    the fewest blocks with which a step fits."""
    recompute_every: int = 1
    """Of how many blocks one forgets."""
    loss_chunk: int | Literal["auto"] = "auto"
    """Positions whose logits exist at the same time; fewer take less memory. auto takes at most
    512 MiB of them on a GPU and 8 MiB on a CPU."""
    kernels: Literal["auto", "torch", "triton"] = "auto"
    """Who computes the loss of logits and its slope, and what blocks do between their products:
    PyTorch's operations, compiled where the blocks are, or kernels written in Triton for NVIDIA
    GPUs, which pass over memory once; auto takes the latter where they work."""
    fp8: bool = False
    """Whether the products in the blocks are in eight bits, on GPUs that have them: a few percent
    for large models, paid with a coarser gradient."""
    deterministic: bool = False
    """Whether a GPU uses only kernels that give the same bits each time; a CPU always does."""
    average_decay: float = 0.0
    """How much of a moving average of the weights stays at each step, such as 0.999; 0 keeps no
    average."""
    tensorboard: bool = True
    """Whether the curves are also written for TensorBoard."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_tokens", "recompute_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; the least is 1")
        if self.recompute_every > 1 and self.recompute in ("none", "auto"):
            why = "no block forgets" if self.recompute == "none" else "the plan says how many do"
            raise ValueError(
                f"training.recompute_every is {self.recompute_every}, but training.recompute is "
                f"{self.recompute!r}, so {why}; choose 'blocks' or 'selective', or leave it out"
            )
        if self.micro_batch != "auto" and self.micro_batch < 1:
            raise ValueError(
                f"training.micro_batch is {self.micro_batch}; the least is 1, or 'auto'"
            )
        if self.loss_chunk != "auto" and self.loss_chunk < 1:
            raise ValueError(f"training.loss_chunk is {self.loss_chunk}; the least is 1, or 'auto'")
        if self.lanes != "auto" and self.lanes < 1:
            raise ValueError(f"training.lanes is {self.lanes}; the least is 1, or 'auto'")
        if not 0 <= self.average_decay < 1:
            raise ValueError(
                f"training.average_decay is {self.average_decay}; choose a number from 0 (none) up "
                "to, but not, 1, such as 0.999"
            )


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
class TasksConfig:
    """On which tasks the model is scored during training, as `modelwright evaluate` scores it."""

    names: tuple[str, ...] = ()
    """Tasks such as "hellaswag"; none, and nothing is scored."""
    every_steps: int = 500
    """Steps from one scoring to the next; the first and the last step are always scored."""
    limit: int | None = None
    """Only the first items of each task, whose scores are marked PARTIAL; left out, all."""
    data: str | None = None
    """The folder that holds the tasks' files."""

    def __post_init__(self) -> None:
        if self.names:
            tasks_named(",".join(self.names), setting="tasks.names", has_all=False)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"tasks.names lists a task twice: {', '.join(self.names)}")
        if self.names and not self.data:
            raise ValueError(
                f"tasks.names is {', '.join(self.names)}, but tasks.data names no folder with "
                "their files; set it, such as tasks.data = 'eval-data'"
            )
        if self.every_steps < 1:
            raise ValueError(f"tasks.every_steps is {self.every_steps}; the least is 1")
        if self.limit is not None and self.limit < 2:
            raise ValueError(
                f"tasks.limit is {self.limit}; the least is 2, which have a standard error, and "
                "left out it is all"
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
    keep_best: bool = True
    """Whether the one with the lowest validation loss stays too."""
    background: bool = True
    """Whether training goes on while a checkpoint is written; takes memory for a copy of it."""

    def __post_init__(self) -> None:
        for name in ("every_steps", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"checkpoints.{name} is {getattr(self, name)}; the least is 1")


@settings
class RunConfig:
    """One run: its text, tokenizer, model, training and what is observed on the way."""

    seed: int = 1
    """Feeds separate streams for weights, data order, dropout and sampling."""
    base_width: int | None = None
    """The model.d_model that schedule.peak_lr was found with; initial weights and learning rates
    then follow from it at any other width (maximal update parametrisation), so that the rate still
    fits. Left out, they do not depend on another width."""
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    initial: InitialConfig = InitialConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    policies: PoliciesConfig = PoliciesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tasks: TasksConfig = TasksConfig()
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

        if self.base_width is not None:
            self._check_width()

    def _check_width(self) -> None:
        if self.base_width is not None and self.base_width < 1:
            raise ValueError(
                f"base_width is {self.base_width}; choose the width that schedule.peak_lr was "
                "found with, such as 128, or leave it out"
            )
        if self.optimizer.kind == "sgd":
            raise ValueError(
                f"base_width is {self.base_width}, but its rule is one of updates whose size does "
                "not depend on the gradient's; choose optimizer.kind = 'adamw' or 'muon', or leave "
                "base_width out"
            )
        has_last_norm = self.model.norm != "none" and self.model.placement == "pre"
        if self.model.tie_embeddings and not has_last_norm:
            raise ValueError(
                f"base_width is {self.base_width}, which makes the gains of the norm before a "
                "shared unembedding smaller, but this model has no norm there; choose "
                "model.tie_embeddings = false, or leave base_width out"
            )

    @property
    def width_ratio(self) -> float:
        """Of the model that the learning rate was found with to this one."""
        return 1.0 if self.base_width is None else self.base_width / self.model.d_model

    @property
    def batch_size(self) -> int:
        """Sequences that each update learns from."""
        return self.training.batch_tokens // self.model.context

    @property
    def n_tokens(self) -> int:
        """Tokens that the whole run learns from, repetitions counted."""
        return self.training.batch_tokens * self.training.n_steps
