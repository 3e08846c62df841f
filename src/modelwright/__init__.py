"""modelwright: from raw text to a language model that is trained, measured and served.

The rooms of the house are packages; each says in its docstring what happens there and which
file to read first. `docs/tour.md` names eight files to read in order. The names below are the
Python side of the command line; importing this package loads none of what they need.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from modelwright.checkpoint.bundle import load_bundle as load_bundle
    from modelwright.config.loading import load_settings as load_settings
    from modelwright.data.building import build_data as build_data
    from modelwright.data.config import DataConfig as DataConfig
    from modelwright.data.folder import open_data as open_data
    from modelwright.data.stories import stories as stories
    from modelwright.experiments.study import run_study as run_study
    from modelwright.experiments.study_file import load_study as load_study
    from modelwright.generation.engine import generate as generate
    from modelwright.tokenizer.tokenizer import Tokenizer as Tokenizer
    from modelwright.tokenizer.training import train_tokenizer as train_tokenizer
    from modelwright.training.config import RunConfig as RunConfig
    from modelwright.training.runs import train as train

_homes = {
    "DataConfig": "modelwright.data.config",
    "RunConfig": "modelwright.training.config",
    "Tokenizer": "modelwright.tokenizer.tokenizer",
    "build_data": "modelwright.data.building",
    "generate": "modelwright.generation.engine",
    "load_bundle": "modelwright.checkpoint.bundle",
    "load_settings": "modelwright.config.loading",
    "load_study": "modelwright.experiments.study_file",
    "open_data": "modelwright.data.folder",
    "run_study": "modelwright.experiments.study",
    "stories": "modelwright.data.stories",
    "train": "modelwright.training.runs",
    "train_tokenizer": "modelwright.tokenizer.training",
}

__all__ = [
    "DataConfig",
    "RunConfig",
    "Tokenizer",
    "__version__",
    "build_data",
    "generate",
    "load_bundle",
    "load_settings",
    "load_study",
    "open_data",
    "run_study",
    "stories",
    "train",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its room the first time it is asked for (PEP 562)."""
    if name not in _homes:
        raise AttributeError(f"module 'modelwright' has no attribute {name!r}")
    return getattr(importlib.import_module(_homes[name]), name)
