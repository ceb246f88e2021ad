from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from edgepack.agent.bench.spec import DEFAULTS
from edgepack.core.errors import StageError, UnsupportedError
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.local import LocalTransport


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
