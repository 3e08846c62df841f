"""Studies of runs that take a moment, as files."""

from pathlib import Path

settings = """
"data.stories_bytes" = 60_000
"data.validation_fraction" = 0.1
"tokenizer.vocab_size" = 300
"model.context" = 16
"model.d_model" = 16
"model.n_layers" = 1
"model.n_heads" = 2
"training.n_steps" = 80
"training.batch_tokens" = 64
"training.precision" = "fp32"
"training.device" = "cpu"
"evaluation.every_steps" = 40
"evaluation.n_tokens" = 64
"""


def write(place: Path, text: str = "", *, set_also: str = "", top: str = "seeds = 1") -> Path:
    """A study file whose data is beside it.

    Args:
        text: what follows the settings that all runs have.
        set_also: more of those.
        top: what comes before them.
    """
    place.mkdir(exist_ok=True)
    path = place / "small.toml"
    data = f'"data.folder" = "{place / "data"}"'
    path.write_text(f"{top}\n\n[set]\n{data}\n{settings}{set_also}\n\n{text}\n")
    return path
