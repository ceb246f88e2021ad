"""Asks the agent on a device to measure one model in one fresh process, or what the device is, and reads its answer."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import EdgepackError, EnvironmentProblem, StageError, UnsupportedError
from edgepack.core.files import cache_folder, write_atomic
from edgepack.devices.agent_events import AGENT, CutOff, LostInRun, PartialRun, Told, read_events, report_of
from edgepack.devices.protocol import CompletedRun, DeviceLost, Transport
from edgepack.records import AgentReport, DeviceState, Environment

__all__ = [
    "AGENT",
    "AgentSpec",
    "CutOff",
    "LostInRun",
    "PartialRun",
    "Probe",
    "agent_file",
    "ask",
    "probe",
    "put_spec",
]

_SOURCE = Path(__file__).resolve().parent.parent / "agent" / "bench"
_ERRORS: dict[str, type[EdgepackError]] = {
    "spec": UnsupportedError,
    "operator": UnsupportedError,
    "unsupported": UnsupportedError,
    "python": EnvironmentProblem,
    "runtime": EnvironmentProblem,
    "memory": EnvironmentProblem,
    "output": EnvironmentProblem,
}
_TAIL_LINES = 5
_KILLED = (-9, 137)  # by SIGKILL, as a child of this process and as a shell tells it
_NOT_FOUND = 127  # a shell's exit code for a command that isn't there


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """One question to the agent. Paths are the device's; docs/benchmarking.md explains the bounds.

    `cores` are those that the process may run on, None leaves them as they are. The warm-up ends when both its minima are reached and the samples
    are stable, or after `warmup_max_s`; 0 asks for no stability. `profile` times every operator, too, which makes the samples longer.
    """

    model: str
    runtime: str = "litert"
    options: Mapping[str, Any] | None = None
    threads: int = 1
    cores: Sequence[int] | None = None
    warmup_min_iterations: int = 10
    warmup_min_s: float = 0.0
    warmup_max_s: float = 5.0
    iterations_min: int = 50
    duration_min_s: float = 0.5
    max_s: float = 60.0
    seed: int = 0
    inputs: Mapping[str, str] | None = None
    outputs: str | None = None
    profile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRuntime:
    """A runtime on a device: package and version, or in `missing` why it can't be used."""

    package: str | None = None
    version: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a device is and has; `runtimes` by the names that targets use."""

    agent: int
    environment: Environment
    state: DeviceState
    runtimes: Mapping[str, FoundRuntime]
    accelerators: tuple[str, ...]


def agent_file() -> Path:
    """The agent as one file, edgepack-agent.pyz, in the cache: the same bytes wherever and whenever it is made."""
    data = agent_bytes()
    path = cache_folder() / "agent" / sha256_bytes(data)[:16] / "edgepack-agent.pyz"
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    return path


def agent_bytes() -> bytes:
    """A zipapp of edgepack/agent/bench: files in order, one date, not compressed (compressors differ between versions of zlib)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(_SOURCE.rglob("*.py")):
            name = file.relative_to(_SOURCE).as_posix()
            entry = zipfile.ZipInfo(name if name == "__main__.py" else f"edgepack_agent/{name}")
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as Unix, on any machine
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def put_spec(device: Transport, spec: AgentSpec) -> str:
    """Copy a spec to the device; its path there, good for any number of processes."""
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        file = Path(folder) / "spec.json"
        file.write_text(json.dumps(asdict(spec)), encoding="utf-8")
        return device.put(file)


def ask(device: Transport, *, agent: str, spec: str, label: str, timeout_s: float) -> AgentReport:
    """One fresh process of the agent; `agent` and `spec` are paths on the device, `label` names the model in errors.

    Raises EnvironmentProblem when the device lacks something, UnsupportedError for what can't be done there, StageError for what else fails.
    A process that was cut off raises CutOff (a StageError) or LostInRun (a DeviceLost); their `partial` is what had come home.
    """
    try:
        completed = device.run(["python", agent, spec], timeout_s=timeout_s)
    except TimeoutError as exc:
        reason = f"one process took longer than {timeout_s:g} s and was killed"
        told = read_events(str(getattr(exc, "stdout", "") or ""), label=label)
        advice = "raise the time limit, or measure a smaller model"
        raise CutOff(f"bench {label}: {reason}; {advice}", partial=told.partial(reason)) from exc
    except DeviceLost as exc:
        partial = read_events(exc.stdout, label=label).partial(str(exc))
        raise LostInRun(f"bench {label}: {exc}", stdout=exc.stdout, partial=partial) from exc
    told = read_events(completed.stdout, label=label)
    if told.error is not None:
        raise _failure(told, told.error, label=label)
    report = report_of(told) if completed.returncode == 0 else None
    if report is None:
        raise _cut_off(told, completed, label=label)
    return report


def probe(device: Transport, *, timeout_s: float = 180.0) -> Probe:
    """What a device is and has, as its own Python tells. Raises StageError when that fails; each runtime is imported there once."""
    agent = device.put(agent_file())
    try:
        completed = device.run(["python", agent, "--probe"], timeout_s=timeout_s)
    except TimeoutError as exc:
        raise StageError(f"the device did not tell what it is within {timeout_s:g} s; raise the time limit") from exc
    try:
        return TypeAdapter(Probe).validate_json(completed.stdout)
    except ValidationError as exc:
        raise _no_answer(completed, label="probe") from exc


def _failure(told: Told, error: Mapping[str, Any], *, label: str) -> EdgepackError:
    message = f"bench {label}: {error['kind']}: {error['message']}"
    if told.samples_ns:
        return CutOff(message, partial=told.partial(str(error["message"])))
    return _ERRORS.get(error["kind"], StageError)(message)


def _cut_off(told: Told, completed: CompletedRun, *, label: str) -> EdgepackError:
    if told.is_nothing:
        return _no_answer(completed, label=label)
    reason = f"the agent {_how_it_ended(completed)} before it had told everything"
    if completed.returncode in _KILLED:
        free_bytes = (told.start or {}).get("before", {}).get("free_memory_bytes")
        free = "" if free_bytes is None else f", of which {free_bytes / 1e6:.0f} MB were free when it began"
        reason += f"; a system that runs out of memory{free} does that (its kernel log says so)"
    return CutOff(f"bench {label}: {reason}{_tail(completed)}", partial=told.partial(reason))


def _no_answer(completed: CompletedRun, *, label: str) -> EdgepackError:
    if completed.returncode == _NOT_FOUND:
        return EnvironmentProblem(
            f"bench {label}: the device has no such Python{_tail(completed)}\n"
            "install Python 3.9 to 3.13 there, or name one with `python` in devices.toml"
        )
    return StageError(f"bench {label}: the agent {_how_it_ended(completed)} and no readable answer{_tail(completed)}")


def _how_it_ended(completed: CompletedRun) -> str:
    code = completed.returncode
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _tail(completed: CompletedRun) -> str:
    last_lines = "\n".join(completed.stderr.strip().splitlines()[-_TAIL_LINES:])
    return f"; its last lines:\n{last_lines}" if last_lines else ""
