"""The gate that CI can run anywhere: instructions counted on an emulated arm64 device, which no neighbour disturbs."""

from __future__ import annotations

from pathlib import Path

import pytest
from arm_device.machine import ArmDevice
from made_bundles import bundle_around

from edgepack.core.types import Silent
from edgepack.gate import Asking, gate, limits_of
from edgepack.stats import Verdict

pytestmark = pytest.mark.device


def layers(folder: Path, depth: int) -> Path:
    """A bundle whose model is so many equal convolutions."""
    import litert_torch
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth))).eval()
    model = folder / f"{depth}.tflite"
    litert_torch.convert(network, (torch.zeros(1, 8, 16, 16),)).export(str(model))
    return bundle_around(model, folder / f"{depth}.edgepack")


def test_2_percent_more_work_is_found_in_one_run_and_the_same_work_never(
    deterministic_arm_device: ArmDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_SSH_CONFIG", str(deterministic_arm_device.ssh_config))
    inventory = tmp_path / "devices.toml"
    inventory.write_text('[devices.vm]\naddress = "ssh://arm-device"\npython_path = ["/opt/litert"]\n')
    suite = tmp_path / "brief.toml"
    suite.write_text("warmup_min_s = 0.0\nwarmup_max_s = 0.1\nduration_min_s = 0.0\niterations_min = 20\n")
    old, new = layers(tmp_path, 50), layers(tmp_path, 51)
    same = tmp_path / "same.edgepack"
    same.write_bytes(old.read_bytes())
    limits = limits_of(["guest_instructions"], [0.01])

    def ratio(bundle: Path, verdict: Verdict) -> float:
        result = gate(
            bundle,
            baseline=str(old),
            limits=limits,
            devices=["vm"],
            asking=Asking(progress=Silent(), inventory=inventory),
            suite=str(suite),
        )
        (effect,) = result.effects
        assert (result.verdict, effect.count) == (verdict, 1)
        return effect.value

    assert [ratio(same, Verdict.PASS) for _ in range(3)] == pytest.approx([1.0] * 3, abs=0.001)
    assert [ratio(new, Verdict.FAIL) for _ in range(3)] == pytest.approx([1.02] * 3, abs=0.005)
