"""Our models inside lm-evaluation-harness, whose hundreds of tasks then can be asked of them.

Importing this registers the model type `modelwright`, so that with the extra `eval` installed

    python -m modelwright.evaluation.harness run --model modelwright \\
        --model_args path=runs/demo --tasks hellaswag

is the harness's own command. Its scoring is ours here: a context that several continuations share
is computed once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

try:
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
    from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]
except ImportError:
    raise ValueError("this needs the package lm-eval: pip install 'modelwright[eval]'") from None

from modelwright.checkpoint.bundle import Bundle
from modelwright.evaluation.encoding import Scored, require_fitting, scored_end
from modelwright.evaluation.scoring import Scorer
from modelwright.evaluation.text import windows
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import Engine
from modelwright.generation.requests import Request
from modelwright.interop.opening import open_model

Tokens = tuple[tuple[str, str], list[int], list[int]]
most_at_once = 16  # texts that are generated side by side
usual_new_tokens = 256


def ignore_note(_: str) -> None:
    """For what the owner of a model was told when it was imported."""


@register_model("modelwright")
class HarnessModel(TemplateLM):
    """A bundle as the harness wants its models."""

    def __init__(
        self,
        path: str | None = None,
        *,
        bundle: Bundle | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_tokens: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """Args:
        path: a run, a checkpoint or a model; or `bundle` is one that is loaded already.
        dtype: PyTorch's name of the number format of matrix products.
        batch_size, max_batch_size: what the harness counts in texts; here `batch_tokens` says it.
        """
        super().__init__()
        if bundle is None:
            if path is None:
                raise ValueError("--model_args needs path=, a run folder or a model")
            bundle = open_model(
                Path(path),
                device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
                dtype=getattr(torch, dtype),
                on_note=ignore_note,
            )
        require_fitting(bundle.tokenizer, bundle.model.config)
        self.bundle = bundle
        self.context = bundle.model.config.context
        self.scorer = Scorer(bundle.model, batch_tokens=batch_tokens)

    @property
    def eot_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.bundle.tokenizer.end_of_text

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Ids of a text; nothing is ever added to them."""
        return self.bundle.tokenizer.encode(string).tolist()

    def _loglikelihood_tokens(
        self, requests: Sequence[Tokens], **_: Any
    ) -> list[tuple[float, bool]]:
        """Score continuations; those of one context are one question."""
        together: dict[str, list[int]] = {}
        for place, ((context, _text), _before, _after) in enumerate(requests):
            together.setdefault(context, []).append(place)
        groups = list(together.values())
        questions = [tuple(self._scored(requests[place]) for place in places) for places in groups]
        answers: dict[int, tuple[float, bool]] = {}
        for found in self.scorer.outcomes(questions):
            for group, outcome in found.items():
                scores = zip(outcome.logprobs, outcome.greedy, strict=True)
                answers |= dict(zip(groups[group], scores, strict=True))
        return [answers[place] for place in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows that do not overlap more than they must."""
        texts: list[Scored] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            tokens = self.bundle.tokenizer.encode(request.args[0])
            found = windows(
                tokens, self.bundle.tokenizer, context=self.context, stride=self.context
            )
            for window in found:
                texts.append(window.text)
                owners.append(place)
        totals = [0.0] * len(requests)
        for found in self.scorer.outcomes([(text,) for text in texts]):
            for number, outcome in found.items():
                totals[owners[number]] += outcome.logprobs[0]
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, or drawn ones where a task asks for a temperature.

        A prompt stands after an end of text, as documents did in training; one that leaves no room
        in the context loses its beginning as the text grows.
        """
        engine = Engine(self.bundle.model, self.bundle.tokenizer, n_slots=most_at_once)
        handles = [engine.submit(request_of(*request.args)) for request in requests]
        engine.run()
        return [handle.text for handle in handles]

    def _scored(self, request: Tokens) -> Scored:
        _, before, after = request
        return scored_end(before, after, self.context)


def request_of(prompt: str, wishes: dict[str, Any]) -> Request:
    """What a task of the harness wants written, in our words."""
    until = wishes.get("until") or []
    is_drawn = bool(wishes.get("do_sample")) and bool(wishes.get("temperature"))
    return Request(
        prompt=prompt,
        max_tokens=int(wishes.get("max_gen_toks") or usual_new_tokens),
        sampling=SamplingConfig(
            temperature=float(wishes["temperature"]) if is_drawn else 0.0,
            top_p=float(wishes.get("top_p") or 1.0) if is_drawn else 1.0,
        ),
        stop=tuple([until] if isinstance(until, str) else until),
    )


def harness_results(
    bundle: Bundle,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    include_path: Path | None = None,
    batch_tokens: int | None = None,
) -> dict[str, Any]:
    """What the harness finds on tasks of its own, which it fetches from the hub.

    Args:
        include_path: a folder with more tasks, as YAML files of its kind.
    """
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    manager = TaskManager(include_path=None if include_path is None else str(include_path))
    found = simple_evaluate(
        model=HarnessModel(bundle=bundle, batch_tokens=batch_tokens),
        tasks=[task.strip() for task in tasks],
        limit=limit,
        task_manager=manager,
    )
    assert found is not None
    return dict(found)


def results_table(results: dict[str, Any]) -> str:
    """The harness's own table."""
    from lm_eval.utils import make_table  # pyright: ignore[reportMissingImports]

    return make_table(results)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]

    cli_evaluate()
