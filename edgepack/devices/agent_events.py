"""Reads what the agent told, line by line, also where it was cut off; edgepack/agent/bench/events.py writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgepack.core.errors import StageError
from edgepack.devices.protocol import DeviceLost
from edgepack.records import AgentReport, Environment

AGENT = 2  # the version of the agent's events that is read here


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRun:
    """What had come home of a process that was cut off. `environment` is None where it had not even begun to load the model."""

    samples_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...]
    reason: str
    environment: Environment | None = None


class CutOff(StageError):
    """A process ended before it had told everything; `partial` is what it had told."""

    def __init__(self, message: str, *, partial: PartialRun) -> None:
        super().__init__(message)
        self.partial = partial


class LostInRun(DeviceLost):
    """The device went away while the agent measured; `partial` is what it had told."""

    def __init__(self, message: str, *, stdout: str, partial: PartialRun) -> None:
        super().__init__(message, stdout=stdout)
        self.partial = partial


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The events of one process, samples put together again."""

    start: dict[str, Any] | None
    warmup_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    states: tuple[dict[str, Any], ...]
    end: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def is_nothing(self) -> bool:
        return self.start is None and self.end is None and self.error is None

    def partial(self, reason: str) -> PartialRun:
        """What is left of it when the rest didn't come."""
        try:
            environment = _environment_reader().validate_python((self.start or {}).get("environment"))
        except ValidationError:
            environment = None
        return PartialRun(samples_ns=self.samples_ns, warmup_ns=self.warmup_ns, reason=reason, environment=environment)


def read_events(stdout: str, *, label: str) -> Told:
    """The events among the lines of an output; a last line that was cut off is left out.

    Raises StageError when an agent of another version wrote them.
    """
    told: dict[str, list[dict[str, Any]]] = {}
    for line in stdout.splitlines():
        event = _object(line)
        if "agent" in event and event["agent"] != AGENT:
            raise StageError(
                f"bench {label}: the agent on the device tells its events in version {event['agent']}, "
                f"this edgepack reads version {AGENT}; let edgepack copy its own agent there"
            )
        told.setdefault(str(event.get("event")), []).append(event)
    samples = told.get("samples", [])
    return Told(
        start=_last(told, "start"),
        warmup_ns=tuple(value for one in samples if one.get("kind") == "warmup" for value in one["ns"]),
        samples_ns=tuple(value for one in samples if one.get("kind") == "measured" for value in one["ns"]),
        states=tuple(one["state"] for one in told.get("state", [])),
        end=_last(told, "end"),
        error=_last(told, "error"),
    )


def report_of(told: Told) -> AgentReport | None:
    """The report that the events make together; None when they are not complete."""
    if told.start is None or told.end is None:
        return None
    counted = {"warmup": len(told.warmup_ns), "measured": len(told.samples_ns)}
    if told.end.get("counts") != counted:
        return None
    samples = {"warmup_ns": told.warmup_ns, "samples_ns": told.samples_ns, "during": told.states}
    try:
        return _report_reader().validate_python({**told.start, **told.end, **samples})
    except ValidationError:
        return None


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _last(told: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any] | None:
    return told[name][-1] if told.get(name) else None


@cache
def _report_reader() -> TypeAdapter[AgentReport]:
    return TypeAdapter(AgentReport)


@cache
def _environment_reader() -> TypeAdapter[Environment]:
    return TypeAdapter(Environment)
