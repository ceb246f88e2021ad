"""What several rooms' tests share. NNCF's quantizers are compiled once per machine, into the user's own cache."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is loaded: one thread that sleeps when it waits, so that tests don't fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NNCF_CI", "1")

from arm_device.machine import ArmDevice, NoArmDevice, running
from small_project import PTQ, Project, write_project
from ssh_server import SshServer, running_sshd, why_no_sshd

# A runner started by `nohup` or in the background ignores these signals, and so would every process that a test starts and interrupts.
for _signal, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _usual)


@pytest.fixture(autouse=True, scope="session")
def results_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests measure is no result of the user's, and whom the user trusts is nothing to them."""
    with pytest.MonkeyPatch.context() as patch:
        (trust := tmp_path_factory.mktemp("trust") / "trust.toml").touch()
        patch.setenv("EDGEPACK_TRUST", str(trust))
        patch.delenv("EDGEPACK_REQUIRE_SIGNED", raising=False)
        patch.setenv("EDGEPACK_STORE", f"sqlite:///{tmp_path_factory.mktemp('store') / 'results.sqlite'}")
        yield


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real float32 model: (1, 3, 8, 8) to (1, 4)."""
    import litert_torch
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 6 * 6, 4)
    ).eval()
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    litert_torch.convert(network, (torch.zeros(1, 3, 8, 8),)).export(str(path))
    return path


@pytest.fixture(scope="session")
def project_files(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The files of the small project, made once a session; nobody builds in this one."""
    return write_project(tmp_path_factory.mktemp("small") / "project")


@pytest.fixture
def tiny_project(tmp_path: Path, project_files: Project) -> Callable[..., Project]:
    """Makes small projects: `tiny_project(steps=PTQ, extra="", name="project")`."""

    def make(
        steps: str = PTQ, *, extra: str = "", name: str = "project", weights: str = "weights.safetensors"
    ) -> Project:
        project = project_files.copy(tmp_path / name)
        project.write_recipe(steps, extra=extra, weights=weights)
        return project

    return make


@pytest.fixture(scope="session")
def built_project(tmp_path_factory: pytest.TempPathFactory, project_files: Project) -> Callable[[str], Project]:
    """A project that was built with some steps, once a session; copy it before you change it."""
    from edgepack.pipeline import build

    made: dict[str, Project] = {}

    def get(steps: str) -> Project:
        if steps not in made:
            project = project_files.copy(tmp_path_factory.mktemp("built") / "project")
            project.write_recipe(steps)
            build(project.folder)
            made[steps] = project
        return made[steps]

    return get


@pytest.fixture(scope="session")
def arm_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArmDevice]:
    """An arm64 machine of this run's own, shared by all its tests: what a test breaks, it mends."""
    try:
        with running(tmp_path_factory.mktemp("arm-device")) as device:
            yield device
    except NoArmDevice as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def deterministic_arm_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArmDevice]:
    """The same, but its clock counts instructions."""
    try:
        with running(tmp_path_factory.mktemp("arm-device"), deterministic=True) as device:
            yield device
    except NoArmDevice as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A real sshd on this machine, for what needs no other processor."""
    if reason := why_no_sshd():
        pytest.skip(reason)
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server
