"""Asks the agent on a device to measure one model in one fresh process, and reads its answer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from edgepack.core.errors import EdgepackError, EnvironmentProblem, StageError, UnsupportedError
from edgepack.devices.protocol import CompletedRun, Transport
from edgepack.records import AgentReport

AGENT = Path(__file__).resolve().parent.parent / "agent" / "bench_agent.py"
_ERRORS: dict[str, type[EdgepackError]] = {"runtime": EnvironmentProblem, "spec": UnsupportedError}
_TAIL_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """One question to the agent. Paths are the device's; docs/benchmarking.md explains the bounds."""

    model: str
    runtime: str = "litert"
    options: Mapping[str, Any] | None = None
    threads: int = 1
    warmup_min_iterations: int = 10
    warmup_min_s: float = 0.0
    iterations_min: int = 50
    duration_min_s: float = 0.5
    max_s: float = 60.0
    seed: int = 0
    inputs: Mapping[str, str] | None = None
    outputs: str | None = None


class _Failure(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: str
    message: str


class _Error(BaseModel):
    error: _Failure


def put_spec(device: Transport, spec: AgentSpec) -> str:
    """Copy a spec to the device; its path there, good for any number of processes."""
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(asdict(spec)), encoding="utf-8")
        return device.put(file)


def ask(device: Transport, *, agent: str, spec: str, label: str, timeout_s: float) -> AgentReport:
    """One fresh process of the agent; `agent` and `spec` are paths on the device, `label` names the model in errors.

    Raises EnvironmentProblem when the device lacks the runtime, StageError for everything else that fails there.
    """
    try:
        completed = device.run(["python", agent, spec], timeout_s=timeout_s)
    except TimeoutError as exc:
        raise StageError(
            f"bench {label}: one process took longer than {timeout_s:g} s and was killed; "
            "raise the time limit, or measure a smaller model"
        ) from exc
    try:
        if completed.returncode == 0:
            return _report_reader().validate_json(completed.stdout)
        failure = _Error.model_validate_json(completed.stdout).error
    except ValidationError as exc:
        raise StageError(f"bench {label}: {_how_it_ended(completed)}") from exc
    raise _ERRORS.get(failure.kind, StageError)(f"bench {label}: {failure.kind}: {failure.message}")


@cache
def _report_reader() -> TypeAdapter[AgentReport]:
    return TypeAdapter(AgentReport)


def _how_it_ended(completed: CompletedRun) -> str:
    code = completed.returncode
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code} and no readable answer"
    last_lines = "\n".join(completed.stderr.strip().splitlines()[-_TAIL_LINES:])
    return f"the agent {ended}" + (f"; its last lines:\n{last_lines}" if last_lines else "")
