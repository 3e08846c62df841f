"""What the runs of a study write when they are trained: `texts.json` in a run's folder."""

import json
from pathlib import Path

from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.experiments.study_config import TextsConfig
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import seed_of
from modelwright.generation.requests import Request
from modelwright.generation.temperatures import AtTemperature, write_at
from modelwright.runtime.device import choose_device
from modelwright.runtime.files import write_atomically
from modelwright.training.config import RunConfig

texts_file = "texts.json"
first_seed = 1  # of the chances: the same for all runs, so that models differ and not their luck


def write_texts(run_folder: Path, run: RunConfig, config: TextsConfig) -> None:
    """Let the model of a run that has ended write, and keep that in its folder."""
    bundle = load_bundle(
        newest_checkpoint(run_folder)[0],
        device=choose_device(run.training.device),
        averaged=bool(run.training.average_decay),
    )
    room = bundle.model.config.context - 1 - len(bundle.tokenizer.encode(config.prompt))
    told = [
        write_at(
            bundle,
            temperature,
            [
                Request(
                    prompt=config.prompt,
                    max_tokens=max(1, min(config.max_tokens, room)),
                    sampling=SamplingConfig(temperature=temperature, top_p=config.top_p),
                    seed=seed_of(first_seed, text),
                )
                for text in range(config.n_texts)
            ],
        )
        for temperature in config.temperatures
    ]
    record = json.dumps([one.to_json() for one in told], indent=1, ensure_ascii=False)
    write_atomically(run_folder / texts_file, record + "\n")


def read_texts(run_folder: Path) -> list[AtTemperature]:
    """What the model of a run wrote; nothing, if it was not asked to.

    Raises:
        ValueError: if the file is damaged.
    """
    path = run_folder / texts_file
    if not path.is_file():
        return []
    try:
        return [AtTemperature.from_json(one) for one in json.loads(path.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it, and the page goes without its texts"
        ) from None
