"""The engines do the same tasks; what goes wrong in one is told here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelwright.runtime.cluster import RayCluster
from modelwright.runtime.workers import InThisProcess, Processes, Threads, choose_engine

engines = [InThisProcess(), Threads(3), Processes(1), Processes(3)]

# Workers import what they do by name, so it has to live in a file that they can find.
module = """
import os, signal, time
def add(job, task, report):
    report(task)
    if task < 0:
        raise ValueError(f"{task} is below zero")
    if task == 13:
        raise KeyError("a fault")
    if task == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 15:
        time.sleep(100)
    return job + task, os.getpid()
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "adding.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import adding  # type: ignore[import-not-found]

    yield adding.add
    del sys.modules["adding"]


@pytest.mark.parametrize("engine", engines, ids=lambda engine: type(engine).__name__)
def test_every_task_is_done_once(engine, add):
    with engine:
        results = list(engine.run(add, 100, range(50, 60)))
        assert list(engine.run(add, 100, [])) == []
        assert [value for value, _ in engine.run(add, 1, [1])] == [2]
    assert sorted(value for value, _ in results) == list(range(150, 160))


@pytest.mark.parametrize("engine", engines, ids=lambda engine: type(engine).__name__)
def test_what_tasks_report_comes_here(engine, add):
    told: list[int] = []
    with engine:
        assert len(list(engine.run(add, 0, [5, 6, 7], told.append))) == 3
    assert sorted(told) == [5, 6, 7]


def test_several_processes_share_the_work(add):
    with Processes(2) as engine:
        pids = {pid for _, pid in engine.run(add, 0, [1, 2, 3, 4, 5, 6, 7, 8])}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("engine", engines, ids=lambda engine: type(engine).__name__)
def test_what_a_task_raises_is_raised_here(engine, add):
    with engine, pytest.raises(ValueError, match="-5 is below zero"):
        list(engine.run(add, 0, [1, -5, 2]))


def test_a_fault_of_the_program_in_a_worker_shows_where_it_was(add):
    with Processes(2) as engine, pytest.raises(KeyError, match="a fault") as raised:
        list(engine.run(add, 0, [13]))
    assert "adding.py" in raised.value.__notes__[0]


def test_a_killed_worker_is_told_and_the_others_end(add):
    began = time.monotonic()
    told = r"killed by signal 9.*fewer --workers"
    with Processes(2) as engine, pytest.raises(ChildProcessError, match=told):
        list(engine.run(add, 0, [15, 14, 1, 2, 3]))
    assert time.monotonic() - began < 30


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path):
    (tmp_path / "adding.py").write_text(module)
    script = (
        "import adding\nfrom modelwright.runtime.workers import Processes\n"
        "with Processes(2) as engine:\n"
        "    for _, pid in engine.run(adding.add, 0, [1, 1, 2, 3, 15, 15]):\n"
        "        print(pid, flush=True)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert starter.stdout is not None
    pids = {int(starter.stdout.readline()) for _ in range(4)}
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "the workers outlived their starter"
        time.sleep(0.05)


def test_a_thread_ends_its_task_when_nobody_waits_for_it():
    def work(job, task, report) -> None:
        if task == 0:
            raise ValueError("the first fails")
        while True:
            time.sleep(0.01)
            report(0)

    began = time.monotonic()
    with pytest.raises(ValueError, match="the first fails"), Threads(2) as engine:
        list(engine.run(work, None, [1, 0]))
    assert time.monotonic() - began < 10


def test_no_more_workers_are_started_than_there_are_tasks():
    assert isinstance(choose_engine("processes", 8, 1), InThisProcess)
    few, many = choose_engine("processes", 8, 3), choose_engine("processes", 8, 300)
    assert isinstance(few, Threads) and few.n_workers == 3
    assert isinstance(many, Processes) and many.n_workers == 8
    assert isinstance(choose_engine("processes", 1, 9), InThisProcess)
    assert isinstance(choose_engine("ray", 2, 9), RayCluster)


def test_a_wrong_engine_or_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="engine is 'spark'; choose 'processes' or 'ray'"):
        choose_engine("spark", 2, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers is 0; the least is 1"):
        choose_engine("processes", 0, 2)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'modelwright\[ray\]'"), RayCluster(2):
        pass
