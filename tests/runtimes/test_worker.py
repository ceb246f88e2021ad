"""A runtime in a process of its own: it may crash, hang or talk nonsense, and is never left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.core.errors import EnvironmentProblem, StageError
from edgepack.runtimes.worker import WorkerProcess

ECHO = """
import json, os, struct, sys
while head := sys.stdin.buffer.read(8):
    content = json.loads(sys.stdin.buffer.read(struct.unpack(">Q", head)[0]))
    arrays = [sys.stdin.buffer.read(struct.unpack(">Q", sys.stdin.buffer.read(8))[0]) for _ in range(content["arrays"])]
    if content.get("do") == "code":
        exec(content["code"])
    for part in (json.dumps(content).encode(), *arrays):
        sys.stdout.buffer.write(struct.pack(">Q", len(part)) + part)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    return path


def is_alive(pid: int) -> bool:
    """A zombie counts: it has been left behind."""
    return Path(f"/proc/{pid}").exists()


def test_arrays_of_any_type_and_size_come_back(script: Path) -> None:
    worker = WorkerProcess(sys.executable, script, timeout_s=60)
    arrays = [
        np.arange(3_000_000, dtype=np.int32).reshape(3, -1),  # far more than a pipe holds
        np.zeros((0, 4), np.float32),
        np.float64(1.5).reshape(()),
        np.array([True, False]),
    ]

    answer, received = worker.ask({"do": "echo"}, arrays)

    assert answer["do"] == "echo"
    for sent, got in zip(arrays, received, strict=True):
        assert sent.dtype == got.dtype
        np.testing.assert_array_equal(sent, got)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("sys.exit('it broke')", "(?s)exit code 1; its last lines:\nit broke"),
        ("sys.stdout.buffer.write(struct.pack('>Q', 4) + b'nono'); sys.stdout.flush()", "can't be read"),
    ],
)
def test_a_worker_that_fails_is_told_and_every_later_question_too(script: Path, code: str, words: str) -> None:
    worker = WorkerProcess(sys.executable, script, timeout_s=60)

    with pytest.raises(StageError, match=words):
        worker.ask({"do": "code", "code": code})

    with pytest.raises(StageError, match="has ended"):
        worker.ask({"do": "echo"})


@pytest.mark.parametrize("arrays", [0, 1])
def test_a_worker_that_hangs_is_killed(script: Path, arrays: int) -> None:
    """Also when it hangs before it has read all of a long question."""
    worker = WorkerProcess(sys.executable, script, timeout_s=60)
    (pid,) = [worker.ask({"do": "code", "code": "content['pid'] = os.getpid()"})[0]["pid"]]
    worker._timeout_s = 0.3
    if arrays:
        os.kill(pid, signal.SIGSTOP)

    with pytest.raises(StageError, match=r"longer than 0\.3 s and was killed"):
        worker.ask({"do": "code", "code": "import time; time.sleep(600)"}, [np.zeros(1_000_000)] * arrays)

    assert not is_alive(pid)


def test_a_worker_does_not_outlive_who_asks(script: Path) -> None:
    worker = WorkerProcess(sys.executable, script, timeout_s=60)
    pid = worker.ask({"do": "code", "code": "content['pid'] = os.getpid()"})[0]["pid"]
    assert is_alive(pid)

    del worker
    gc.collect()

    assert not is_alive(pid)


def test_an_interrupted_question_ends_the_worker(script: Path) -> None:
    worker = WorkerProcess(sys.executable, script, timeout_s=60)
    pid = worker.ask({"do": "code", "code": "content['pid'] = os.getpid()"})[0]["pid"]

    with pytest.raises(KeyboardInterrupt):  # sent by the worker itself: no earlier and no later than the question
        worker.ask({"do": "code", "code": f"import time; os.kill(os.getppid(), {int(signal.SIGINT)}); time.sleep(600)"})

    assert not is_alive(pid)


def test_an_interpreter_that_is_none_is_an_environment_problem(script: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="can't be started"):
        WorkerProcess(str(tmp_path / "no-python"), script, timeout_s=1)
