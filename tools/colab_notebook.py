"""Writes examples/colab.ipynb, whose cells are here, where they can be read and compared.

    python tools/colab_notebook.py

A notebook is JSON with every line in quotes. So this is what to edit; a test sees to it that the
notebook is what this writes.
"""

import json
from pathlib import Path
from typing import Any

notebook_path = Path(__file__).parents[1] / "examples" / "colab.ipynb"


def text(name: str, source: str) -> dict[str, Any]:
    """A cell to read."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": lines(source)}


def code(name: str, source: str) -> dict[str, Any]:
    """A cell to run, without the traces of having been run."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": lines(source),
    }


def lines(source: str) -> list[str]:
    """A cell as the format has it: lines that keep their ends, but for the last."""
    return source.strip().splitlines(keepends=True)


cells = [
    text(
        "what",
        r"""
# GPT-2 small on one T4

This notebook trains GPT-2 small, 124,439,808 parameters, from random weights: 953 steps of
524,288 tokens, which is five times through a hundred million tokens of educational web pages
([FineWeb-Edu](https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu)). It is made for the 16
GB T4 that Colab lends, and computes in fp16, because that card has no bf16.

| | |
| --- | --- |
| computing | 4.3 · 10¹⁷ FLOPs; at a third of the T4's nominal 65 · 10¹² a second, 5½ hours |
| fetching | 2.2 GB of text, once |
| drive | 0.2 GB of tokens, and up to 6 GB for a run: a checkpoint has 1.5 GB |

A session may end sooner than that, so text and run are on the drive. After a disconnect run all the
cells again: they skip what is done, and training goes on from the last checkpoint.
""",
    ),
    text(
        "settings-title",
        r"""
## Settings

Choose *Runtime › Change runtime type › T4 GPU*, and say where modelwright is to be had. With
`MODELWRIGHT_TOY=1` in the environment everything is so small that two processor cores need
seconds: the same cells, on the built-in stories, with a model that only babbles.
""",
    ),
    code(
        "settings",
        r"""
import os
import shutil

REPOSITORY = os.environ.get("MODELWRIGHT_REPOSITORY", "")  # what `git clone` takes, or a folder
TOY = os.environ.get("MODELWRIGHT_TOY", "0") == "1"
N_STEPS = 24 if TOY else 953
STOP_AFTER = 10 if TOY else None  # a step to stop after, to see the run go on

if not TOY and not shutil.which("nvidia-smi"):
    raise RuntimeError("there is no GPU here; choose one, or set MODELWRIGHT_TOY=1")
""",
    ),
    text("install-title", "## Install\n\nIf modelwright is here already, there is nothing to do."),
    code(
        "install",
        r"""
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("modelwright") is None:
    if not REPOSITORY:
        raise RuntimeError("set REPOSITORY above to the address or the folder of modelwright")
    clone = Path("modelwright-clone").absolute()
    if not clone.exists():
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, clone], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"{clone}[hub]", "tensorboard"], check=True)
    importlib.invalidate_caches()
""",
    ),
    text(
        "drive-title",
        r"""
## The drive

Elsewhere than on Colab, a folder beside the notebook stands for it. What is deleted on a mounted
drive goes to the drive's bin and takes space until that is emptied, old checkpoints too.
""",
    ),
    code(
        "drive",
        r"""
try:
    from google.colab import drive
except ImportError:
    HOME = Path("modelwright-drive").absolute()
else:
    drive.mount("/content/drive")
    HOME = Path("/content/drive/MyDrive/modelwright")
HOME.mkdir(parents=True, exist_ok=True)
TOKENIZER, RECIPE, RUN = HOME / "tokenizer.json", HOME / "recipe.toml", HOME / "run"
""",
    ),
    text(
        "commands-title",
        r"""
## Commands

The rest is modelwright's command line. A command's output is shown as it comes, and if it fails
so does the cell. The stop button is its Ctrl-C: the run is saved after the step in hand.
""",
    ),
    code(
        "commands",
        r'''
import signal
import threading
import time


def modelwright(*arguments, stop_when=None):
    """Run a command of modelwright; stop it as Ctrl-C does once `stop_when()` is true."""
    command = [sys.executable, "-m", "modelwright", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,  # so that the stop button reaches it once, from here
    )
    if stop_when is not None:
        threading.Thread(target=stop_later, args=(process, stop_when), daemon=True).start()
    has_ended = False
    while not has_ended:
        try:
            for line in process.stdout:
                sys.stdout.write(line)
            has_ended = True
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
    exit_code = process.wait()
    was_wanted = stop_when is not None and exit_code == 128 + signal.SIGINT
    if exit_code and not was_wanted:
        raise RuntimeError(f"exit code {exit_code} of {' '.join(command)}")


def stop_later(process, is_time):
    while process.poll() is None and not is_time():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # does nothing to a process that has ended
''',
    ),
    text(
        "recipe-title",
        r"""
## Recipe

`recipes/gpt2-small.toml` trains on ten billion tokens. Here is what this run does otherwise. The
source is the first of the sample's 14 files; each of its documents is taken with a chance that
leaves about a hundred million tokens, and a million for validation.
""",
    ),
    code(
        "recipe",
        r"""
from importlib.resources import files

import tomlkit

few = {"path": "hub:HuggingFaceFW/fineweb-edu/sample/10BT/000_*.parquet", "weight": 0.135}
changes = {
    "data": {
        "folder": str(HOME / "data"),
        "source": [few],
        "validation_fraction": 0.01,
        "downloads": str(Path("downloads").absolute()),
    },
    "tokenizer": {"file": str(TOKENIZER)},
    "schedule": {"warmup": 100},
    "training": {
        "n_steps": N_STEPS,
        "precision": "fp16",
        "micro_batch": 8,
        "device": "cuda",
    },
    "evaluation": {"every_steps": 50},
    "samples": {"every_steps": 100},
    "checkpoints": {"every_steps": 50},
}
if TOY:
    small = {
        "data": {"source": "stories", "stories_bytes": 200_000, "validation_fraction": 0.05},
        "tokenizer": {"vocab_size": 512},
        "model": {"vocab_size": 512, "context": 32, "d_model": 32, "n_layers": 2, "n_heads": 2},
        "schedule": {"warmup": 4, "peak_lr": 0.01},
        "training": {"batch_tokens": 512, "device": "cpu"},
        "evaluation": {"every_steps": 8, "n_tokens": 1024},
        "samples": {"every_steps": 24, "max_tokens": 16},
        "checkpoints": {"every_steps": 8},
    }
    changes = {name: changes.get(name, {}) | small.get(name, {}) for name in {**changes, **small}}

recipe = tomlkit.parse((files("modelwright") / "recipes" / "gpt2-small.toml").read_text())
for section, values in changes.items():
    recipe[section].update(values)
RECIPE.write_text(tomlkit.dumps(recipe))
modelwright("config", RECIPE)
""",
    ),
    text(
        "data-title",
        r"""
## Tokenizer and text

GPT-2's own tokenizer, and the text cut into its tokens, checked file by file as it is fetched. A
build that was stopped goes on.
""",
    ),
    code(
        "data",
        r"""
if not TOKENIZER.exists():
    if TOY:
        modelwright("tokenizer", "train", "stories", "--vocab-size", 512, "--out", TOKENIZER)
    else:
        modelwright("tokenizer", "import", "hub:openai-community/gpt2", "--out", TOKENIZER)
if not (HOME / "data").exists():
    modelwright("data", "build", RECIPE)
modelwright("data", "info", HOME / "data", "--documents", 1)
""",
    ),
    text(
        "train-title",
        r"""
## Train

A step reads 524,288 tokens in portions of 8 sequences. In fp16 the loss is multiplied by
`loss_scale` on its way back, because small gradients would vanish otherwise. A gradient that
overflows is no error: the scale is halved and the step left out. The first steps may do so a few
times.
""",
    ),
    code(
        "train",
        r"""
import json


def last_step():
    path = RUN / "metrics.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return json.loads(whole[-1])["step"] if whole else 0


def train(stop_after=None):
    is_begun = (RUN / "config.toml").exists()
    if is_begun:
        sys.stdout.write(f"going on after step {last_step()}\n")
    modelwright(
        "train",
        *(["--resume", RUN] if is_begun else [RECIPE, "--out", RUN]),
        stop_when=None if stop_after is None else lambda: last_step() >= stop_after,
    )


train(STOP_AFTER)
""",
    ),
    text(
        "resume-title",
        r"""
## Go on

This is what happens when the cells are run again after a disconnect. The toy run was stopped on
purpose, and goes on here; a run that is done has nothing left to do. A run that was stopped comes
to the same weights as one that was not.
""",
    ),
    code("resume", "train()"),
    text(
        "look-title",
        r"""
## Look

`report.html` in the run's folder has these pictures and more. To watch the curves while the run
goes on, use TensorBoard: `%load_ext tensorboard`, then `%tensorboard --logdir
/content/drive/MyDrive/modelwright/run`.
""",
    ),
    code(
        "look",
        r"""
from IPython.display import SVG, display

from modelwright.experiments.plots import learning_rate_plot, loss_plot
from modelwright.training.metrics import read_metrics

records = read_metrics(RUN)
display(SVG(loss_plot(records)))
display(SVG(learning_rate_plot(records)))
for record in records:
    if "validation_loss" in record:
        scale = record.get("loss_scale", "-")
        sys.stdout.write(
            f"step {record['step']:>4}  validation loss {record['validation_loss']:.3f}  "
            f"loss scale {scale}\n"
        )
""",
    ),
    code(
        "samples",
        r"""
sampling = ["--top-k", 50, "--top-p", 1.0, "--temperature", 1.0, "--seed", 1]
prompt = ["--prompt", "Hello, I'm a language model,"]
modelwright("generate", RUN, *prompt, *sampling, "--samples", 4, "--max-tokens", 32)
""",
    ),
    text(
        "expect",
        r"""
## What to expect

- Before the first step the loss is about ln 50,257 = 10.8: every token is as likely as any other.
- This very run has not been carried out. An H100 came to a validation loss of 5.46 after 160 steps
  of the same size on other text (`docs/results/training-gpu.md`).
- Half a billion tokens are a fifth of the 20 a parameter (2.5 billion) that are thought best for
  the computing they take, and only a fifth of them are different ones.
- `recipes/gpt2-small.toml` reads ten billion, on a card with fifteen times the FLOPs a second.
""",
    ),
]

notebook = {
    "cells": cells,
    "metadata": {
        "accelerator": "GPU",
        "colab": {"gpuType": "T4"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}


def as_json() -> str:
    """The notebook's file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    notebook_path.write_text(as_json(), encoding="utf-8")
