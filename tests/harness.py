"""Tasks of lm-evaluation-harness that read local files, and what it makes of them.

Prompts are written here once more, in the harness's own templates, so that they check ours.
"""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

choice_metrics = [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}]


def library() -> Any:
    """The harness, told to fetch nothing; without it the test is left out."""
    # Only while it loads: the commands that other tests start do go to a hub, one on this machine.
    with patch.dict(os.environ, {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}):
        pytest.importorskip("accelerate", reason="it is not installed: pip install 'lm-eval[hf]'")
        return pytest.importorskip(
            "lm_eval", reason="lm-eval is not installed: pip install 'modelwright[eval]'"
        )


def _chosen(text: str, choices: str = "choices", gold: str = "gold") -> dict[str, Any]:
    return {
        "output_type": "multiple_choice",
        "doc_to_text": text,
        "doc_to_choice": choices,
        "doc_to_target": gold,
        "metric_list": choice_metrics,
    }


_filled = {
    "output_type": "multiple_choice",
    "doc_to_text": "gold",
    "doc_to_choice": "context_options",
    "doc_to_target": "continuation",
    "metric_list": [{"metric": "acc"}],
}
_distinct = "{{choices|unique(case_sensitive=true)|list}}"
_gold_of_distinct = "{{(choices|unique(case_sensitive=true)|list).index(choices[gold])}}"
_asked = "{{query|trim}}\nAnswer:"

short_layouts: dict[str, dict[str, Any]] = {
    "hellaswag": _chosen("query"),
    "lambada_openai": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
        "doc_to_target": "{{' '+text.split(' ')[-1]}}",
        "metric_list": [
            {"metric": "acc"},
            {"metric": "perplexity", "aggregation": "perplexity"},
        ],
    },
    "piqa": _chosen(_asked),
    "arc_easy": _chosen(_asked, _distinct, _gold_of_distinct),
    "arc_challenge": _chosen(_asked, _distinct, _gold_of_distinct),
    "winogrande": _filled,
    "openbookqa": _chosen("query"),
    "copa": _chosen(
        "{{query.replace(', therefore', ' therefore').replace(', because', ' because')}}",
        "{{[' ' + choices[0], ' ' + choices[1]]}}",
    ),
    "boolq": _chosen("{{query[9:]}}\nAnswer:"),
    "commonsense_qa": _chosen("{{query.replace('Choices:\n', '')}}"),
    "wsc273": _filled,
}


def _with_query(dataset: Any) -> Any:
    """HellaSwag of llama.cpp's file, in the words of the harness's own preparation."""
    from lm_eval.tasks.hellaswag.utils import preprocess  # pyright: ignore[reportMissingImports]

    def prepared(row: dict[str, Any]) -> dict[str, Any]:
        begun, _, last = row["ctx"].rpartition(". ")
        if last[:1].islower():
            last = last.capitalize()
        context = f"{begun}. {last}" if begun else last
        return {
            "query": preprocess(context),
            "choices": [preprocess(ending) for ending in row["endings"]],
            "gold": row["label"],
        }

    return dataset.map(prepared)


def config_of(name: str, file: Path) -> dict[str, Any]:
    """A task of the harness on a local file in the short layout."""
    config = {
        "task": f"local_{name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "num_fewshot": 0,
        **short_layouts[name],
    }
    return config | ({"process_docs": _with_query} if name == "hellaswag" else {})


def shipped_config(name: str, file: Path) -> dict[str, Any]:
    """A task as the harness ships it, on a local file in the layout of the hub."""
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks._yaml_loader import load_yaml  # pyright: ignore[reportMissingImports]

    config = load_yaml(TaskManager().task_index[name].yaml_path)
    return config | {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
    }


def samples(lm: Any, configs: list[dict[str, Any]], limit: int | None = None) -> dict[str, Any]:
    """What the harness finds: its results, and for each task its samples in the file's order."""
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]

    found = simple_evaluate(
        model=lm, tasks=configs, limit=limit, log_samples=True, bootstrap_iters=0
    )
    for rows in found["samples"].values():
        rows.sort(key=lambda row: row["doc_id"])
    return found
