import os

import pytest

from modelwright.model.block_kernels import show_compiler
from modelwright.runtime.user_folder import keep_gpu_programs_together


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without what an earlier test has set, and afterwards as it was."""
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("TRITON_HOME", raising=False)
    return monkeypatch


def test_gpu_programs_lie_where_triton_keeps_its_own(environment: pytest.MonkeyPatch):
    keep_gpu_programs_together()
    assert os.environ["TRITON_CACHE_DIR"] == "/home/ada/.triton/cache"


def test_tritons_home_may_be_elsewhere(environment: pytest.MonkeyPatch):
    environment.setenv("TRITON_HOME", "/scratch")
    keep_gpu_programs_together()
    assert os.environ["TRITON_CACHE_DIR"] == "/scratch/.triton/cache"


def test_a_folder_that_the_user_set_stays(environment: pytest.MonkeyPatch):
    environment.setenv("TRITON_CACHE_DIR", "/programs")
    keep_gpu_programs_together()
    assert os.environ["TRITON_CACHE_DIR"] == "/programs"


def test_the_folder_is_settled_before_anything_is_compiled(environment: pytest.MonkeyPatch):
    show_compiler()
    assert os.environ["TRITON_CACHE_DIR"] == "/home/ada/.triton/cache"
