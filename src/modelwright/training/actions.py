"""What happens now and then while a model trains: evaluate, sample, save."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelwright.checkpoint.resume import save_checkpoint
from modelwright.data.loader import Chunks
from modelwright.evaluation.perplexity import validation_loss
from modelwright.generation.engine import generate
from modelwright.runtime.seeding import stream_seed
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.config import EvaluationConfig, RunConfig, SamplesConfig
from modelwright.training.loop import TrainingState


class Evaluate:
    """Measure the loss on validation text."""

    def __init__(
        self,
        config: EvaluationConfig,
        chunks: Chunks,
        *,
        batch_size: int,
        bytes_per_token: float,
    ) -> None:
        self.every_steps = config.every_steps
        self.config = config
        self.chunks = chunks
        self.batch_size = batch_size
        self.bytes_per_token = bytes_per_token

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        surprise = validation_loss(
            state.model, self.chunks, max_tokens=self.config.n_tokens, batch_size=self.batch_size
        )
        return {
            "validation_loss": surprise.loss,
            "validation_bits_per_byte": surprise.bits_per_byte(self.bytes_per_token),
        }


class Sample:
    """Let the model write, each time with the same draws of chance."""

    def __init__(
        self, config: SamplesConfig, tokenizer: Tokenizer, *, seed: int, tell: Callable[[str], None]
    ) -> None:
        """Args:
        tell: is given each text as soon as it is there.
        """
        self.every_steps = config.every_steps
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self.tell = tell

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        state.model.eval()
        texts = [
            generation.text
            for index, prompt in enumerate(self.config.prompts)
            for generation in generate(
                state.model,
                self.tokenizer,
                prompt,
                n_samples=self.config.n_samples,
                max_tokens=self.config.max_tokens,
                sampling=self.config.sampling,
                seed=stream_seed(self.seed, f"samples/{index}"),
            )
        ]
        state.model.train()
        for text in texts:
            self.tell(text)
        return {"samples": texts}


class Save:
    """Write a checkpoint from which the run can go on."""

    def __init__(self, config: RunConfig, tokenizer: Tokenizer, run_folder: Path) -> None:
        self.every_steps = config.checkpoints.every_steps
        self.keep = config.checkpoints.keep
        self.tokenizer = tokenizer
        self.run_folder = run_folder

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        save_checkpoint(
            self.run_folder,
            step=state.step,
            model=state.model,
            tokenizer=self.tokenizer,
            optimizer=state.optimizer,
            state={"seconds": state.seconds},
            keep=self.keep,
        )
        return {}
