"""The agent on a real arm64 system over ssh, and in an emulator whose clock counts instructions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from arm_device.machine import ArmDevice

from edgepack.devices.agent import AgentSpec, CutOff, agent_file, ask, probe, put_spec
from edgepack.devices.inventory import Device
from edgepack.devices.ssh.transport import SshTransport
from edgepack.records import AgentReport

pytestmark = [pytest.mark.device, pytest.mark.slow]
RUNTIMES = ("/opt/litert", "/opt/tflite-runtime", "/opt/onnxruntime", "/opt/openvino")


@contextmanager
def reached(machine: ArmDevice, *python_path: str) -> Iterator[SshTransport]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACK_SSH_CONFIG", str(machine.ssh_config))
        device = Device(name="arm", address="ssh://arm-device", python_path=python_path)
        with SshTransport("arm-device", device=device) as transport:
            yield transport


def measured(device: SshTransport, model: Path, *, times: int = 1, **spec: object) -> list[AgentReport]:
    bounds = {"warmup_max_s": 0, "iterations_min": 20, "duration_min_s": 0, **spec}
    question = put_spec(device, AgentSpec(model=device.put(model), **bounds))  # type: ignore[arg-type]
    agent = device.put(agent_file())
    return [ask(device, agent=agent, spec=question, label="tiny", timeout_s=300) for _ in range(times)]


@pytest.mark.parametrize("folder", RUNTIMES)
def test_a_probe_tells_the_board_and_the_runtime_that_it_has(arm_device: ArmDevice, folder: str) -> None:
    name = folder.rpartition("/")[2].replace("-", "_")
    with reached(arm_device, folder) as device:
        found = probe(device)

    assert (found.environment.machine, found.environment.emulated) == ("aarch64", "QEMU")
    assert found.environment.soc == "linux,dummy-virt"
    assert found.runtimes[name].version
    others = {other for other, one in found.runtimes.items() if one.missing and "install" in one.missing}
    assert others == set(found.runtimes) - {name, *(["litert"] if name == "tflite_runtime" else [])}


def test_emulated_time_is_marked_as_such(arm_device: ArmDevice, tiny_tflite: Path) -> None:
    with reached(arm_device, "/opt/litert") as device:
        (report,) = measured(device, tiny_tflite, duration_min_s=2.5)

    assert (report.environment.emulated, report.environment.clock) == ("QEMU", "ns")
    assert report.execution.delegate == "XNNPACK"
    assert report.execution.delegated_nodes == report.execution.nodes
    assert report.during
    assert report.memory.pss_bytes
    assert report.memory.peak_not_reset is None


def test_kernels_are_timed_on_arm_too(arm_device: ArmDevice, tiny_tflite: Path) -> None:
    with reached(arm_device, "/opt/litert") as device:
        (report,) = measured(device, tiny_tflite, profile=True)

    assert {"CONV_2D", "FULLY_CONNECTED"} <= {layer.kind for layer in report.profile}


def test_a_clock_of_instructions_tells_the_same_in_every_process(
    deterministic_arm_device: ArmDevice, tiny_tflite: Path
) -> None:
    with reached(deterministic_arm_device, "/opt/litert") as device:
        reports = measured(device, tiny_tflite, times=4)[1:]

    medians = [sorted(report.samples_ns)[len(report.samples_ns) // 2] for report in reports]
    assert {report.environment.clock for report in reports} == {"guest_instructions"}
    assert max(medians) / min(medians) - 1 <= 0.001, medians


def test_an_agent_that_the_system_kills_leaves_its_samples_and_no_process(
    arm_device: ArmDevice, tiny_tflite: Path
) -> None:
    """As the OOM killer does: SIGKILL in the middle, by another process on the board."""
    kill = "for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline 2>/dev/null | grep -q '[a]gent.pyz' && kill -9 ${d#/proc/}; done; true"
    arm_device.ssh("sh", "-c", f"(sleep 20; {kill}) >/dev/null 2>&1 &")

    with reached(arm_device, "/opt/litert") as device, pytest.raises(CutOff, match="runs out of memory") as caught:
        measured(device, tiny_tflite, duration_min_s=60, max_s=90)

    assert caught.value.partial.samples_ns
    assert caught.value.partial.environment is not None
    assert "agent.pyz" not in arm_device.ssh("ps", "-eo", "args").stdout
