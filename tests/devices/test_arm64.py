"""The agent on a real arm64 system over a real SSH connection: the same int8 outputs, exact instruction counts, and a run that was cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arm_device.machine import ArmDevice
from made_runs import run
from small_project import PTQ, Project

from edgepack.bundle.archive import read_bundle
from edgepack.core.errors import EnvironmentProblem
from edgepack.devices.agent import AgentSpec, LostInRun, agent_file, ask, put_spec
from edgepack.devices.inventory import Device
from edgepack.devices.local import LocalTransport
from edgepack.devices.protocol import Transport
from edgepack.devices.provision import provisioned
from edgepack.devices.ssh.transport import SshTransport
from edgepack.records import AgentReport
from edgepack.store.results import open_store

LITERT = Device(name="vm", address="ssh://arm-device", python_path=("/opt/litert",))
SAMPLES = 20
Open = Callable[..., SshTransport]


@pytest.fixture(scope="module")
def model(built_project: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 model as edgepack builds it."""
    bundle = read_bundle(next((built_project(PTQ).folder / "dist").glob("*.edgepack")))
    return bundle.model_path(bundle.extract(tmp_path_factory.mktemp("bundle")))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    transports: list[SshTransport] = []

    def open_it(arm: ArmDevice, entry: Device = LITERT) -> SshTransport:
        monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(arm.ssh_config))
        transports.append(SshTransport("arm-device", device=entry, connect_s=30))
        return transports[-1]

    yield open_it
    for transport in transports:
        transport.close()


def inputs_of(model: Path, folder: Path) -> tuple[str, Path]:
    """The name of the model's input, and random samples for it in the whole range of its type."""
    from ai_edge_litert.interpreter import Interpreter

    [(name, detail)] = Interpreter(model_path=str(model)).get_signature_runner().get_input_details().items()
    shape, generator = (SAMPLES, *detail["shape"][1:]), np.random.default_rng(7)
    kind = detail["dtype"]
    if kind == np.int8:
        samples = generator.integers(-128, 128, shape, np.int8)
    else:
        samples = generator.normal(size=shape).astype(kind)
    np.save(folder / "samples.npy", samples)
    return name, folder / "samples.npy"


def asked(device: Transport, model: Path, **options: object) -> AgentReport:
    """One process of the agent, with bounds that an emulator keeps in seconds."""
    usual = {"warmup_min_iterations": 5, "warmup_max_s": 0.0, "iterations_min": 20, "duration_min_s": 0.0}
    spec = put_spec(device, AgentSpec(model=device.put(model), **{**usual, **options}))  # type: ignore[arg-type]
    return ask(device, agent=device.put(agent_file()), spec=spec, label="tiny", timeout_s=300)


def outputs(device: Transport, model: Path, folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    name, samples = inputs_of(model, folder)
    asked(device, model, inputs={name: device.put(samples)}, outputs="outputs.npz")
    device.get("outputs.npz", folder / "outputs.npz")
    with np.load(folder / "outputs.npz") as arrays:
        return dict(arrays)


def test_int8_outputs_equal_those_of_this_machine_bit_for_bit(
    arm_device: ArmDevice, opened: Open, model: Path, tmp_path: Path
) -> None:
    there = opened(arm_device)
    with LocalTransport() as here:
        expected = outputs(here, model, tmp_path / "here")

    found = outputs(there, model, tmp_path / "there")

    assert there.run(["uname", "-m"], timeout_s=60).stdout == "aarch64\n"
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert len(np.unique(values)) > 10, "a model with constant outputs would prove nothing"
        np.testing.assert_array_equal(found[name], values)


def test_an_emulated_device_says_so(arm_device: ArmDevice, opened: Open, model: Path) -> None:
    report = asked(opened(arm_device), model)

    assert (report.environment.machine, report.environment.clock) == ("aarch64", "ns")
    assert report.environment.emulated is not None and "qemu" in report.environment.emulated.lower()


@pytest.mark.device
def test_instructions_are_the_same_in_every_fresh_process(
    deterministic_arm_device: ArmDevice, opened: Open, model: Path
) -> None:
    device = opened(deterministic_arm_device)

    reports = [asked(device, model) for _ in range(6)][1:]  # the first also fills the caches of the file system

    medians = [float(np.median(report.samples_ns)) for report in reports]
    assert {report.environment.clock for report in reports} == {"guest_instructions"}
    assert max(medians) / min(medians) <= 1.001, medians


def test_a_missing_runtime_is_told(arm_device: ArmDevice, opened: Open, model: Path) -> None:
    entry = Device(name="vm", address="ssh://arm-device", python_path=("/opt/onnxruntime",))

    with pytest.raises(EnvironmentProblem, match="bench tiny: runtime: "):
        asked(opened(arm_device, entry), model)


@pytest.mark.device
def test_a_runtime_is_brought_to_a_device_that_lacks_it_once(
    arm_device: ArmDevice, opened: Open, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = Device(name="vm", address="ssh://arm-device")
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path / "cache"))
    notes: list[str] = []
    try:
        with provisioned(opened(arm_device, bare), "litert", note=notes.append) as device:
            report = asked(device, model)
    except EnvironmentProblem as exc:
        if "can't be downloaded" in str(exc):
            pytest.skip(str(exc))
        raise

    assert report.environment.machine == "aarch64"
    assert any("aarch64.whl" in note for note in notes)
    notes.clear()
    again = provisioned(opened(arm_device, bare), "litert", note=notes.append)
    assert (notes, again.packages) == ([], device.packages)
    arm_device.ssh("rm", "-r", "/home/edge/.cache")


@pytest.mark.device
def test_a_run_that_was_cut_off_keeps_its_samples_and_its_retry_is_no_second_result(
    arm_device: ArmDevice, opened: Open, model: Path, tmp_path: Path
) -> None:
    device = opened(arm_device)
    keeper = str(device.facts["folder"]).rpartition("/")[2].split("-")[1]
    cut = (
        f"while ! pgrep -f edgepack-agent > /dev/null; do sleep 0.2; done; sleep 25; kill -9 $(ps -o ppid= -p {keeper})"
    )
    threading.Thread(target=arm_device.ssh, args=("sh", "-c", cut), kwargs={"limit_s": 200}, daemon=True).start()

    with pytest.raises(LostInRun, match="the device itself ran on") as caught:
        asked(device, model, duration_min_s=200.0, max_s=250.0)
    partial = replace(
        run(),
        status="partial",
        report=None,
        reason=caught.value.partial.reason,
        samples_ns=caught.value.partial.samples_ns,
        accuracy=None,
    )
    report = asked(opened(arm_device), model)
    complete = replace(partial, attempt=2, status="complete", report=report, reason=None, samples_ns=())

    assert len(caught.value.partial.samples_ns) > 20
    with open_store(f"sqlite:///{tmp_path / 'results.db'}") as store:
        store.add([partial])
        store.add([complete])
        store.add([partial])
        kept = list(store.runs())
    assert [(kept_run.attempt, kept_run.status) for kept_run in kept] == [(2, "complete")]
