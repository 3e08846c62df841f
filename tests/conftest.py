"""What all tests share: shape checks at run time, small configs, and where real text is."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

from modelwright.runtime.threads import wait_politely

# Every annotated shape in these is checked while the tests run; training does not pay for it.
checked = [
    "modelwright.data.loader",
    "modelwright.data.packing",
    "modelwright.evaluation",
    "modelwright.generation",
    "modelwright.model",
    "modelwright.training.step",
]
wait_politely()  # before torch is loaded
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
# Not this user's, whose measured rates would change every plan; commands that tests start have it.
home_of_tests = tempfile.TemporaryDirectory(prefix="modelwright-tests-")
os.environ["MODELWRIGHT_HOME"] = home_of_tests.name
assert not any(name.startswith(tuple(checked)) for name in sys.modules)
if os.environ.get("SHAPE_CHECKS") != "off":
    install_import_hook(checked, "shape_checker.checker")


@pytest.fixture(scope="session", autouse=True)
def fair_share() -> None:
    """Leave each of several workers its share of the cores: threads that wait for a core that
    another worker has take longer than one thread. Processes that tests start have all of them."""
    n_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if n_workers > 1:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // n_workers))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, and no waiting for a second processor that has other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The unpacked folder of real text that MODELWRIGHT_DATA names."""
    name = os.environ.get("MODELWRIGHT_DATA")
    if not name:
        pytest.skip("MODELWRIGHT_DATA does not name a folder of real text")
    folder = Path(name)
    assert folder.is_dir(), f"MODELWRIGHT_DATA is {name}, which is not a folder"
    return folder
