"""What happens now and then while a model trains: evaluate, forecast, sample, save.

Scoring on tasks is in `task_scores.py`.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from modelwright.checkpoint.bundle import distinct_weights
from modelwright.checkpoint.snapshot import Buffers, take_snapshot
from modelwright.checkpoint.writer import Writer
from modelwright.data.loader import Cut
from modelwright.evaluation.perplexity import BrokenOff, Surprise, validation_loss
from modelwright.generation.engine import generate
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.seeding import stream_seed
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.attempt import TrainingState
from modelwright.training.config import EvaluationConfig, SamplesConfig
from modelwright.training.curve_forecast import Curve

# Tokens at once without gradients: enough that a small model keeps a device from idling, by the
# launches of an H100, where a model of 22.7M took 5.6 ms for 256 tokens; not measured size by size.
least_at_once = {"cuda": 8_192, "cpu": 1024}
most_at_once = {"cuda": 32_768, "cpu": 1024}


class Evaluate:
    """Measure the loss on validation text; a request to stop breaks it off.

    More sequences go through the model at once than in a portion of a training step, if that is
    small. What a block computes is gone when the next begins, so half as many portions as there are
    blocks should need about the step's memory; the least may need more. If they do not fit, it is
    as in the step.
    """

    name = "evaluate"

    def __init__(
        self, config: EvaluationConfig, cut: Cut, *, bytes_per_token: float, stop: StopRequest
    ) -> None:
        self.every_steps = config.every_steps
        self.config = config
        self.cut = cut
        self.bytes_per_token = bytes_per_token
        self.stop = stop
        self.has_room = True

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        try:
            surprise = self._measure(state)
            found = {
                "validation_loss": surprise.loss,
                "validation_perplexity": surprise.perplexity,
                "validation_bits_per_byte": surprise.bits_per_byte(self.bytes_per_token),
            }
            if state.average is not None:
                with state.average.in_place_of(state.model):
                    found["averaged_validation_loss"] = self._measure(state).loss
        except BrokenOff:
            return {}
        state.validation_loss = surprise.loss
        return found

    def _measure(self, state: TrainingState) -> Surprise:
        n_sequences = self._sequences_at_once(state)
        if self.has_room and n_sequences > state.micro_batch:
            try:
                return self._measure_in(state, n_sequences)
            except torch.OutOfMemoryError:
                self.has_room = False
            # Here the tensors of what did not fit are gone.
            if state.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._measure_in(state, state.micro_batch)

    def _sequences_at_once(self, state: TrainingState) -> int:
        device, context = state.device.type, self.cut.context
        as_little = state.micro_batch * state.model.config.n_layers // 2
        least, most = least_at_once[device] // context, most_at_once[device] // context
        return min(most, max(least, as_little))

    def _measure_in(self, state: TrainingState, batch_size: int) -> Surprise:
        # Compiling for other shapes would take longer than it saves here.
        with torch.compiler.set_stance("force_eager"):
            return validation_loss(
                state.model,
                self.cut,
                max_tokens=self.config.n_tokens,
                batch_size=batch_size,
                is_stopped=lambda: self.stop.requested,
            )


class ForecastEnd:
    """Say where the validation loss is going to end, right after it was measured."""

    name = "forecast"

    def __init__(self, every_steps: int, curve: Curve) -> None:
        self.every_steps = every_steps
        self.curve = curve

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        if state.validation_loss is None:
            return {}
        found = state.forecast = self.curve.forecast(state.step, state.validation_loss)
        if found is None:
            return {}
        return {
            "forecast_loss": found.loss,
            "forecast_low": found.low,
            "forecast_high": found.high,
        }


class Sample:
    """Let the model write, each time with the same draws of chance."""

    name = "samples"

    def __init__(
        self,
        config: SamplesConfig,
        tokenizer: Tokenizer,
        *,
        seed: int,
        tell: Callable[[str], None],
        stop: StopRequest,
    ) -> None:
        """Args:
        tell: is given each text as soon as it is there.
        """
        self.every_steps = config.every_steps
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self.tell = tell
        self.stop = stop

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        texts: list[str] = []
        lent = state.average.in_place_of(state.model) if state.average else nullcontext()
        state.model.eval()
        with lent, torch.compiler.set_stance("force_eager"):
            for index, prompt in enumerate(self.config.prompts):
                if self.stop.requested:
                    break
                texts += [generation.text for generation in self._write(state, prompt, index)]
        state.model.train()
        for text in texts:
            self.tell(text)
        return {"samples": texts} if texts else {}

    def _write(self, state: TrainingState, prompt: str, index: int) -> Any:
        return generate(
            state.model,
            self.tokenizer,
            prompt,
            n_samples=self.config.n_samples,
            max_tokens=self.config.max_tokens,
            sampling=self.config.sampling,
            seed=stream_seed(self.seed, f"samples/{index}"),
        )


class Save:
    """Copy the state and let it be written as a checkpoint from which the run can go on."""

    name = "save"

    def __init__(
        self,
        every_steps: int,
        writer: Writer,
        tokenizer: Tokenizer,
        facts: Callable[[TrainingState], dict[str, Any]],
    ) -> None:
        """Args:
        facts: what resuming needs besides the tensors.
        """
        self.every_steps = every_steps
        self.writer = writer
        self.tokenizer = tokenizer
        self.facts = facts
        self.buffers = Buffers()

    def wait(self) -> None:
        """Return when everything saved so far is on the disk."""
        self.writer.wait()

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        self.writer.save(
            take_snapshot(
                self.buffers,
                step=state.step,
                config=state.model.config,
                tokenizer=self.tokenizer,
                weights=distinct_weights(state.model),
                optimizer=state.optimizer.named_state(),
                averaged=state.average.weights if state.average else None,
                state=self.facts(state),
                validation_loss=state.validation_loss,
            )
        )
        return {}
