"""A bundle proven by its golden samples: on this machine, over ssh, and on an arm64 device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arm_device.machine import ArmDevice
from click.testing import CliRunner
from small_project import PTQ, Project
from ssh_server import SshServer

from edgepack.bundle import write_bundle
from edgepack.bundle.golden import to_npy
from edgepack.bundle.manifest import Manifest
from edgepack.cli import app
from edgepack.core.digest import sha256_file
from edgepack.core.errors import CheckFailed, DeviceLost, EnvironmentProblem, UnsupportedError, UsageError
from edgepack.devices.inventory import Device
from edgepack.devices.local import LocalTransport
from edgepack.signing.bundles import sign_bundle
from edgepack.signing.keys import PrivateKey
from edgepack.verified import verify

Write = Callable[..., Path]


@pytest.fixture
def write(tiny_tflite: Path, tmp_path: Path) -> Write:
    """A bundle around the tiny model with three golden samples, of which `error` is added to the recorded outputs."""
    from edgepack.runtimes.litert import LiteRT

    inputs = np.random.default_rng(3).normal(size=(3, 3, 8, 8)).astype(np.float32)
    session = LiteRT().open(tiny_tflite, threads=1)
    (own,), (answer,) = session.inputs, session.outputs
    outputs = session.run({own.name: inputs})[answer.name]

    def make(*, error: float = 0.0, golden: bool = True) -> Path:
        tensors = {"dtype": "float32", "layout": "any"}
        variant: dict[str, Any] = {
            "target": "arm64",
            "model": {
                "path": "model/model.tflite",
                "format": "tflite",
                "runtime": "litert",
                "sha256": sha256_file(tiny_tflite),
                "size_bytes": tiny_tflite.stat().st_size,
                "precision": "float32",
            },
            "inputs": [{"name": own.name, "shape": [1, 3, 8, 8], **tensors}],
            "outputs": [{"name": answer.name, "shape": [1, 4], **tensors}],
            "checks_passed": True,
        }
        files: dict[str, Any] = {"model/model.tflite": tiny_tflite}
        if golden:
            names = {"inputs": ["golden/input_0.npy"], "outputs": ["golden/output_0.npy"]}
            variant["golden"] = {**names, "samples": 3, "tolerance_steps": 1.0, "output_steps": [0.01]}
            files |= {"golden/input_0.npy": to_npy(inputs), "golden/output_0.npy": to_npy(outputs + np.float32(error))}
        manifest = Manifest.model_validate({"name": "tiny", "version": "1.0.0", "variants": [variant]})
        return write_bundle(tmp_path / "tiny.edgepack", manifest=manifest, files=files)

    return make


def test_the_golden_samples_run_here_and_in_a_process_of_the_local_device_alike(write: Write) -> None:
    bundle = write()

    here, there = verify(bundle), verify(bundle, device="local")

    assert here.device is None and there.device is not None
    assert here.golden == there.golden
    assert there.passed and there.golden[0].values == 12
    assert there.variants[0].runtime.startswith("ai_edge_litert 2.")


def test_a_device_that_answers_otherwise_fails_with_the_numbers(write: Write) -> None:
    result = CliRunner().invoke(app, ["verify", str(write(error=0.05)), "--on", "local", "--json"])

    content = json.loads(result.stdout)
    assert result.exit_code == CheckFailed.exit_code
    assert content["device"]["transport"] == "local" and content["passed"] is False
    (one,) = content["variants"][0]["golden"]
    assert one["largest_steps"] == pytest.approx(5.0, abs=0.01)
    assert (one["tolerance_steps"], one["differing"], one["values"]) == (1.0, 12, 12)
    assert "gives other outputs than the build recorded for" in result.stderr


def test_the_numbers_are_shown_with_the_device_and_its_runtime(write: Write) -> None:
    result = CliRunner().invoke(app, ["verify", str(write()), "--on", "local"], env={"COLUMNS": "160"})

    assert result.exit_code == 0
    assert "(local), ai_edge_litert 2." in result.stdout
    assert "0 of 12" in result.stdout


def test_who_signed_a_bundle_is_told_with_how_it_runs(write: Write, tmp_path: Path) -> None:
    bundle, key = write(), PrivateKey.generate()
    (tmp_path / "team.pub.pem").write_bytes(key.public.pem())
    sign_bundle(bundle, [key], bundle)
    command = ["verify", str(bundle), "--key", str(tmp_path / "team.pub.pem")]

    content = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    shown = CliRunner().invoke(app, command).stdout

    signer = {"key_id": key.key_id, "algorithm": "ed25519", "name": "team.pub.pem", "standing": "trusted"}
    assert (content["trust"], content["signatures"], content["passed"]) == ("trusted", [signer], True)
    assert "signed by team.pub.pem (trusted)" in shown
    unknown = CliRunner().invoke(app, ["verify", str(bundle)]).stdout
    assert f"signed by {key.key_id} (unknown)" in unknown and "! " in unknown


def test_golden_samples_run_over_ssh(
    write: Write, sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's Python is this one, named in devices.toml."""
    import sys

    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(sshd.config))
    inventory = tmp_path / "devices.toml"
    inventory.write_text(f'[devices.shelf]\naddress = "ssh://board"\npython = "{sys.executable}"\n')

    right = verify(write(), device="shelf", inventory=inventory)
    wrong = verify(write(error=0.05), device="shelf", inventory=inventory)

    assert right.device is not None and right.device.transport == "ssh"
    assert right.passed and not wrong.passed


def test_a_bundle_without_golden_samples_has_nothing_to_run_on_a_device(write: Write) -> None:
    bundle = write(golden=False)

    assert verify(bundle).variants[0].not_run == "it has no golden samples"
    with pytest.raises(UsageError, match="no golden samples, so there is nothing to run on local"):
        verify(bundle, device="local")


def test_a_device_without_the_runtime_is_told_so(write: Write, tmp_path: Path) -> None:
    import shutil

    inventory = tmp_path / "devices.toml"
    inventory.write_text(f'[devices.bare]\naddress = "local"\npython = "{shutil.which("python3", path="/usr/bin")}"\n')

    with pytest.raises(EnvironmentProblem):
        verify(write(), device="bare", inventory=inventory)


def test_a_device_that_only_tells_times_is_refused(write: Write) -> None:
    """LiteRT's benchmark program, for devices without Python, gives no outputs."""
    from edgepack.bench.golden import run_on_device
    from edgepack.bundle import read_bundle
    from edgepack.opened import variant_model

    bundle = read_bundle(write())
    model = variant_model(bundle, bundle.variant())
    program = Path(__file__).parent / "devices" / "benchmark_model_stand_in.sh"
    with LocalTransport("", device=Device(name="phone", address="local", python="python9")) as device:
        device.native_benchmark = program  # type: ignore[attr-defined]

        with pytest.raises(UnsupportedError, match="tells no outputs; golden samples need a Python on the device"):
            run_on_device(model, {}, device=device)


def test_a_device_that_goes_away_ends_with_its_own_exit_code(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LocalTransport.run

    def lost(self: LocalTransport, argv: Any, **options: Any) -> Any:
        if str(argv[-1]).endswith("spec.json"):
            raise DeviceLost("the link broke")
        return right(self, argv, **options)

    monkeypatch.setattr(LocalTransport, "run", lost)

    result = CliRunner().invoke(app, ["verify", str(write()), "--on", "local"])

    assert result.exit_code == DeviceLost.exit_code
    assert "the link broke" in result.stderr


@pytest.mark.device
def test_an_arm64_device_gives_what_was_recorded_on_x86_64(
    arm_device: ArmDevice, built_project: Callable[[str], Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An int8 model that edgepack built, through LiteRT's kernels for Arm."""
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(arm_device.ssh_config))
    bundle = next((built_project(PTQ).folder / "dist").glob("*.edgepack"))
    inventory = tmp_path / "devices.toml"
    inventory.write_text('[devices.vm]\naddress = "ssh://arm-device"\npython_path = ["/opt/litert"]\n')

    result = verify(bundle, device="vm", inventory=inventory)

    assert result.passed
    assert result.device is not None and result.device.transport == "ssh"
    assert result.golden[0].values > 0
