from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgepack.agent.bench import events
from edgepack.agent.bench.spec import DEFAULTS
from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.devices.agent import (
    AGENT,
    AgentSpec,
    CutOff,
    LostInRun,
    agent_bytes,
    agent_file,
    ask,
    probe,
    put_spec,
)
from edgepack.devices.local import LocalTransport
from edgepack.devices.protocol import CompletedRun, DeviceLost


@pytest.fixture
def device() -> Iterator[LocalTransport]:
    with LocalTransport() as transport:
        yield transport


def agent_that(device: LocalTransport, folder: Path, code: str) -> str:
    """Another program in the agent's place."""
    (folder / "agent.py").write_text(code)
    return device.put(folder / "agent.py")


def test_what_the_agent_can_not_do_names_the_model(device: LocalTransport) -> None:
    spec = put_spec(device, AgentSpec(model="no.tflite"))

    with pytest.raises(StageError, match=r"bench digits: model: no\.tflite: can't be read"):
        ask(device, agent=device.put(agent_file()), spec=spec, label="digits", timeout_s=60)


def test_an_unknown_runtime_is_unsupported(device: LocalTransport) -> None:
    spec = put_spec(device, AgentSpec(model="no.tflite", runtime="abacus"))

    with pytest.raises(UnsupportedError, match="abacus"):
        ask(device, agent=device.put(agent_file()), spec=spec, label="digits", timeout_s=60)


def test_the_spec_and_the_agent_know_the_same_keys() -> None:
    written = {name: value for name, value in asdict(AgentSpec(model="m")).items() if name != "model"}

    assert {"model": None, **written} == DEFAULTS


def test_a_process_that_hangs_is_told(device: LocalTransport, tmp_path: Path) -> None:
    agent = agent_that(device, tmp_path, "import time; time.sleep(600)")

    with pytest.raises(StageError, match=r"bench digits: one process took longer than 0\.5 s"):
        ask(device, agent=agent, spec="spec.json", label="digits", timeout_s=0.5)


def test_a_process_that_crashes_is_told(device: LocalTransport, tmp_path: Path) -> None:
    agent = agent_that(device, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    with pytest.raises(StageError, match="killed by signal 11"):
        ask(device, agent=agent, spec="spec.json", label="digits", timeout_s=60)


@pytest.mark.parametrize("code", ["print('hello')", "raise SystemExit('it broke')", "print('{}')"])
def test_an_unreadable_answer_is_told(device: LocalTransport, tmp_path: Path, code: str) -> None:
    agent = agent_that(device, tmp_path, code)

    with pytest.raises(StageError, match="no readable answer"):
        ask(device, agent=agent, spec="spec.json", label="digits", timeout_s=60)


TOLD = (
    'print(\'{"event": "start", "agent": 2, "model_sha256": "x"}\', flush=True)\n'
    'print(\'{"event": "samples", "kind": "warmup", "ns": [9]}\', flush=True)\n'
    'print(\'{"event": "samples", "kind": "measured", "ns": [5, 6]}\', flush=True)\n'
    'print(\'{"event": "samples", "kind": "measured", "ns": [7]}\', flush=True)\n'
    'print(\'{"event": "samples", "kind": "mea\', end="", flush=True)\n'
)


def cut_off(device: LocalTransport, folder: Path, code: str, *, timeout_s: float = 60) -> CutOff:
    with pytest.raises(CutOff) as caught:
        ask(device, agent=agent_that(device, folder, code), spec="spec.json", label="digits", timeout_s=timeout_s)
    return caught.value


def test_a_process_that_was_killed_leaves_its_samples(device: LocalTransport, tmp_path: Path) -> None:
    error = cut_off(device, tmp_path, TOLD + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert (error.partial.warmup_ns, error.partial.samples_ns) == ((9,), (5, 6, 7))
    assert "killed by signal 9" in error.partial.reason
    assert "runs out of memory" in str(error)


def test_a_process_that_ended_too_early_leaves_its_samples(device: LocalTransport, tmp_path: Path) -> None:
    error = cut_off(device, tmp_path, TOLD)

    assert error.partial.samples_ns == (5, 6, 7)
    assert "ended with exit code 0 before it had told everything" in str(error)


def test_an_error_in_the_middle_leaves_what_came_before(device: LocalTransport, tmp_path: Path) -> None:
    event = '{"event": "error", "agent": 2, "kind": "inference", "message": "it broke"}'
    error = cut_off(device, tmp_path, TOLD + f"print('\\n{event}')\nraise SystemExit(8)")

    assert str(error) == "bench digits: inference: it broke"
    assert error.partial.samples_ns == (5, 6, 7)


class Losing(LocalTransport):
    """Loses its device while a command runs: what a real link does when it breaks (tests/arm_device has real ones)."""

    def run(self, argv: Sequence[str], *, timeout_s: float, **settings: Any) -> CompletedRun:
        done = super().run(argv, timeout_s=timeout_s, **settings)
        raise DeviceLost("ssh://board: the link broke", stdout=done.stdout)


class Late(LocalTransport):
    def run(self, argv: Sequence[str], *, timeout_s: float, **settings: Any) -> CompletedRun:
        error = TimeoutError("too late")
        error.stdout = super().run(argv, timeout_s=timeout_s, **settings).stdout  # type: ignore[attr-defined]
        raise error


def test_a_device_that_was_lost_leaves_what_had_come_home(tmp_path: Path) -> None:
    with Losing() as device, pytest.raises(LostInRun, match="bench digits: ssh://board: the link broke") as caught:
        ask(device, agent=agent_that(device, tmp_path, TOLD), spec="s", label="digits", timeout_s=60)

    assert caught.value.exit_code == 11
    assert caught.value.partial.samples_ns == (5, 6, 7)


def test_a_process_that_took_too_long_leaves_what_had_come_home(tmp_path: Path) -> None:
    with Late() as device:
        error = cut_off(device, tmp_path, TOLD)

    assert error.partial.samples_ns == (5, 6, 7)


def test_a_real_process_that_is_killed_leaves_samples_and_environment(tiny_tflite: Path, tmp_path: Path) -> None:
    """The agent itself, stopped in the middle of its second second."""
    with LocalTransport() as device:
        spec = put_spec(device, AgentSpec(model=device.put(tiny_tflite), duration_min_s=60, warmup_max_s=0))
        runner = (
            f"import subprocess, sys; p = subprocess.Popen([sys.executable, {device.put(agent_file())!r}, {spec!r}]); "
        )
        error = cut_off(device, tmp_path, runner + "import time; time.sleep(4); p.kill(); p.wait(); sys.exit(137)")

    assert len(error.partial.samples_ns) > 100
    assert error.partial.environment is not None
    assert error.partial.environment.runtime == "ai_edge_litert"


@pytest.mark.parametrize("answer", ['{"agent": 1, "samples_ns": [1]}', '{"event": "start", "agent": 3}'])
def test_another_version_of_the_agent_is_told(device: LocalTransport, tmp_path: Path, answer: str) -> None:
    with pytest.raises(
        StageError, match=r"the agent on the device tells its events in version [13], this edgepack reads version 2"
    ):
        ask(device, agent=agent_that(device, tmp_path, f"print('{answer}')"), spec="s", label="digits", timeout_s=60)


def test_both_sides_have_the_same_version() -> None:
    assert events.AGENT == AGENT


def test_a_device_without_python_says_what_to_do(device: LocalTransport, tmp_path: Path) -> None:
    agent = agent_that(device, tmp_path, "import sys; sys.stderr.write('python3: not found'); sys.exit(127)")

    with pytest.raises(EnvironmentProblem, match=r"install Python 3\.9 to 3\.13 there"):
        ask(device, agent=agent, spec="s", label="digits", timeout_s=60)


def test_the_agent_is_the_same_bytes_every_time_and_one_file() -> None:
    assert agent_bytes() == agent_bytes() == agent_file().read_bytes()
    assert agent_file() == agent_file()
    assert agent_file().name == "edgepack-agent.pyz"


def test_a_probe_tells_what_the_device_is_and_has(device: LocalTransport) -> None:
    found = probe(device)

    assert found.environment.cores >= 1
    assert found.state.load_average >= 0
    assert found.runtimes["litert"].package == "ai_edge_litert"
    assert all((one.version is None) != (one.missing is None) for one in found.runtimes.values())


def test_cores_and_threads_are_set_and_read_back(device: LocalTransport, tiny_tflite: Path) -> None:
    core = max(os.sched_getaffinity(0))
    spec = AgentSpec(model=device.put(tiny_tflite), cores=[core], threads=2, duration_min_s=0, warmup_max_s=0)

    report = ask(device, agent=device.put(agent_file()), spec=put_spec(device, spec), label="tiny", timeout_s=60)

    assert report.execution.affinity == (core,)
    assert report.execution.threads == 2
    assert report.environment.usable_cores == 1


def test_a_whole_report_comes_home(device: LocalTransport, tiny_tflite: Path) -> None:
    spec = AgentSpec(model=device.put(tiny_tflite), duration_min_s=1.2)

    report = ask(device, agent=device.put(agent_file()), spec=put_spec(device, spec), label="tiny", timeout_s=60)

    assert report.agent == AGENT
    assert len(report.during) >= 1
    assert report.before.at_s < report.during[0].at_s < report.after.at_s
    assert report.warmup_stable is not None
    assert report.import_ms is not None
    assert report.memory.pss_bytes or report.memory.missing
    assert report.environment.boot_id
