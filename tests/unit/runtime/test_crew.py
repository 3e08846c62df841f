"""Workers that stay, and what happens when one does not."""

import signal
import sys
import time
from typing import Any

import pytest

from modelwright.runtime.crew import (
    Ended,
    LocalCrew,
    WorkerDied,
    gpu_place,
    share_of_processor,
    visible_gpus,
)

# Workers import what they do by name, so it has to live in a file that they can find.
module = """
import os, signal, time
def work(job, task, report):
    report(1)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fail":
        raise ValueError("it cannot be done")
    if task == "long":
        asked = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
        report(2)
        while not asked:
            time.sleep(0.01)
        return "asked to stop"
    return os.getpid(), os.getsid(0), os.environ.get("PLACE")
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("working")
    (folder / "crew_work.py").write_text(module)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        import crew_work  # type: ignore[import-not-found]

        yield crew_work.work
        del sys.modules["crew_work"]


def ends_of(crew: LocalCrew, n: int = 1, reports: list[Any] | None = None) -> list[Ended]:
    found: list[Ended] = []
    told: list[Any] = [] if reports is None else reports
    until = time.monotonic() + 60
    while len(found) < n and time.monotonic() < until:
        found += crew.wait(0.1, lambda task, number: told.append((task, number)))
    assert len(found) == n
    return found


def test_a_worker_outlives_its_tasks_and_is_replaced_when_it_dies(work):
    reports: list[Any] = []
    with LocalCrew(work, [{"PLACE": "here"}], preload="") as crew:
        assert crew.n_free == 1
        pids = []
        for task in ("one", "two"):
            crew.give(task)
            assert crew.n_free == 0
            (ended,) = ends_of(crew, reports=reports)
            pids.append(ended.result[0])
        assert pids[0] == pids[1]
        assert ended.result[2] == "here"
        assert (
            ended.result[1] == pids[0]
        )  # a session of its own: the terminal's Ctrl-C goes past it
        assert reports == [("one", 1), ("two", 1)]

        crew.give("fail")
        (ended,) = ends_of(crew)
        assert isinstance(ended.error, ValueError)
        crew.give("die")
        (ended,) = ends_of(crew)
        assert ended.task == "die" and isinstance(ended.error, WorkerDied)
        assert "was killed by signal 9" in str(ended.error)
        crew.give("three")
        (ended,) = ends_of(crew)
        assert ended.result[0] != pids[0] and ended.result[2] == "here"


def test_tasks_go_on_at_the_same_time_and_end_when_they_are_asked_to(work):
    reports: list[Any] = []
    with LocalCrew(work, [{}, {}], preload="") as crew:
        crew.give("long")
        crew.give("long")
        while reports.count(("long", 2)) < 2:
            crew.wait(0.1, lambda task, number: reports.append((task, number)))
        crew.ask_to_stop()
        assert [ended.result for ended in ends_of(crew, 2)] == ["asked to stop"] * 2


def test_workers_under_way_are_killed_when_nobody_waits_for_them(work):
    with LocalCrew(work, [{}], preload="") as crew:
        crew.give("long")
        (worker,) = crew._busy.values()
    assert worker.process.returncode == -signal.SIGKILL


def test_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5")
    assert visible_gpus() == ["3", "GPU-5"]
    assert gpu_place("3") == {"CUDA_VISIBLE_DEVICES": "3"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() is None


def test_workers_share_the_processor_unless_the_user_said_how(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share_of_processor(1) == {}
    assert share_of_processor(3) == {"OMP_NUM_THREADS": "2"}
    assert share_of_processor(20) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert share_of_processor(3) == {}
