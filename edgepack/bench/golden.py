"""Golden samples on a device: the agent runs the very inputs that a bundle carries, and its outputs come home."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgepack.bench.models import BenchModel
from edgepack.bench.place import OUTPUTS
from edgepack.bundle.golden import to_npy
from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.types import Array
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.native import native_where_no_python
from edgepack.devices.protocol import Transport
from edgepack.records import AgentReport

_TIMEOUT_S = 600.0


def run_on_device(
    model: BenchModel,
    inputs: Mapping[str, Array],
    *,
    device: Transport,
    threads: int = 1,
    timeout_s: float = _TIMEOUT_S,
) -> tuple[dict[str, Array], AgentReport]:
    """What a model answers on a device, by output name, for arrays of shape (samples, …) by input name; and what the agent tells of the device.

    One fresh process there checks the model's SHA-256 and runs every sample once. Raises EnvironmentProblem when the device lacks something,
    DeviceLost when it went away, UnsupportedError where no outputs can be had, StageError for what else fails.
    """
    if native_where_no_python(device) is not None:
        raise UnsupportedError(
            f"{device.describe().name}: LiteRT's benchmark program tells no outputs; golden samples need a Python on the device (docs/devices.md)"
        )
    agent, remote = device.put(agent_file()), device.put(model.path, companions=model.companions)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        files = {}
        for index, (name, array) in enumerate(inputs.items()):
            file = Path(folder) / f"golden_{index}.npy"
            file.write_bytes(to_npy(array))
            files[name] = device.put(file)
        spec = put_spec(device, _spec(model, remote, files, threads))
        report = ask(device, agent=agent, spec=spec, label=model.label, timeout_s=timeout_s)
        if report.model_sha256 != model.sha256:
            raise StageError(f"{model.label}: the device ran another file than {model.path}; run the command again")
        local = Path(folder) / OUTPUTS
        device.get(OUTPUTS, local)
        with np.load(local, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}, report


def _spec(model: BenchModel, remote: str, files: Mapping[str, str], threads: int) -> AgentSpec:
    """Nothing is measured: one inference is timed, because the agent times at least one."""
    return AgentSpec(
        model=remote,
        runtime=model.runtime,
        options=dict(model.runtime_options),
        threads=threads,
        warmup_min_iterations=0,
        warmup_max_s=0.0,
        iterations_min=1,
        duration_min_s=0.0,
        inputs=dict(files),
        outputs=OUTPUTS,
    )
