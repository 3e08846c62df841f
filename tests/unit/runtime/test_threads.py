import os

import pytest

from modelwright.runtime.threads import wait_politely


def test_threads_wait_politely_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    wait_politely()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_politely()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
