"""The notebook for Colab runs from its first cell to its last, at toy size and without a network."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbclient
import nbformat
import pytest

from modelwright.training.metrics import read_metrics

repository = Path(__file__).parents[2]
notebook_path = repository / "examples" / "colab.ipynb"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """What writes the notebook."""
    path = repository / "tools" / "colab_notebook.py"
    spec = importlib.util.spec_from_file_location("colab_notebook", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources(notebook: Any) -> dict[str, str]:
    """Each cell's source by its name."""
    return {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}


def test_the_notebook_is_what_the_tool_writes(tool: ModuleType):
    written = notebook_path.read_text(encoding="utf-8")
    assert written == tool.as_json(), "run: python tools/colab_notebook.py"


def test_the_notebook_is_valid_and_bears_no_traces_of_a_run():
    notebook = nbformat.read(notebook_path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def outputs(folder: Path) -> dict[str, str]:
    """What each cell showed, by its name; a cell that fails ends the tests that ask for it."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    # A kernel of our own, because the one that is installed may have another Python.
    kernel = folder / "kernels" / "here" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "here", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(kernel.parents[1])])
    manager = AsyncKernelManager(kernel_name="here", kernel_spec_manager=specs)

    notebook = nbformat.read(notebook_path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=180, resources={"metadata": {"path": str(folder)}}
    )
    environment = {
        "MODELWRIGHT_TOY": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "HF_HUB_OFFLINE": "1",
    }
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    client.execute(env=os.environ | environment | nowhere)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    return {cell.id: shown(cell) for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: Any) -> str:
    """The text and the pictures that a cell put out."""
    parts: list[str] = []
    for output in cell.outputs:
        parts += [output.text] if output.output_type == "stream" else output.data.values()
    return "".join(parts)


@pytest.fixture
def run(outputs: dict[str, str], folder: Path) -> Path:
    """The run that the notebook made."""
    return folder / "modelwright-drive" / "run"


def test_the_run_stops_midway_and_goes_on(outputs: dict[str, str], run: Path):
    stop = re.search(r"stopped by Ctrl-C after step (\d+)", outputs["train"])
    assert stop is not None
    assert 10 <= int(stop[1]) < 24
    assert f"going on after step {stop[1]}\n" in outputs["resume"]
    assert "stopped" not in outputs["resume"]
    assert [record["step"] for record in read_metrics(run)] == list(range(25))


def test_the_last_step_is_saved(run: Path):
    assert (run / "checkpoints" / "step-000024" / "model.safetensors").exists()


def test_every_step_is_in_fp16_with_its_loss_scale(run: Path):
    assert json.loads((run / "run.json").read_text())["precision"] == "fp16"
    assert all(record["loss_scale"] > 1 for record in read_metrics(run)[1:])


def test_the_model_learns(run: Path):
    losses = [r["validation_loss"] for r in read_metrics(run) if "validation_loss" in r]
    assert losses[-1] < losses[0] - 0.2


def test_curves_and_samples_are_shown(outputs: dict[str, str]):
    assert outputs["look"].count("</svg>") == 2
    assert "step   24  validation loss" in outputs["look"]
    assert outputs["samples"].count("Hello, I'm a language model,") == 4


def commands(tool: ModuleType) -> dict[str, Any]:
    """What the cell with the commands defines."""
    names: dict[str, Any] = {"subprocess": subprocess, "sys": sys}
    exec(sources(tool.notebook)["commands"], names)
    return names


def test_a_command_that_fails_fails_its_cell(tool: ModuleType, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match=r"exit code 2 of .* config nowhere\.toml"):
        commands(tool)["modelwright"]("config", "nowhere.toml")
    assert "there is no recipe nowhere.toml" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_at_once(tool: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MODELWRIGHT_TOY", raising=False)
    with pytest.raises(RuntimeError, match="no GPU"):
        exec(sources(tool.notebook)["settings"], {})
