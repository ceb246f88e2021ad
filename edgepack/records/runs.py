"""The run that is kept of a process: what was measured on which device, under which conditions, and its summary without samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgepack.core.digest import digest_of
from edgepack.records.metrics import Accuracy, metrics_of
from edgepack.records.process import AgentReport, Environment

Status = Literal["complete", "partial", "void", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceName:
    """Which device: the transport's name and the device's own; never an address or a person."""

    transport: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured: a model file of a bundle ('bundle'), or its float model ('float'), in a runtime with options."""

    label: str
    model_sha256: str
    size_bytes: int
    runtime: str
    runtime_options: Mapping[str, Any] = field(default_factory=dict)
    bundle: str | None = None
    version: str | None = None
    target: str | None = None
    bundle_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What two results must have in common to be compared, beside the device and the runtime with its version.

    `protocol` holds every bound of the suite; `inputs_sha256` is of the samples that were fed, None for a random one from a seed.
    """

    suite: str
    protocol: Mapping[str, Any]
    threads: int
    affinity: tuple[int, ...] | None = None
    inputs_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One process on one device, with all that it measured.

    `bench` is the invocation's own id (a UUID), `round` and `position` the place in its order, `attempt` counts from 1: a retried run has the same `key`. `started_at` is UTC, ISO 8601,
    by the host's clock. A 'partial' run was cut off: `samples_ns` holds what had come home, `report` is None, `reason` says what happened. A 'void' run
    broke a rule on the device's state that was fixed beforehand. Neither counts in a comparison.
    """

    bench: str
    device: DeviceName
    subject: Subject
    conditions: Conditions
    round: int
    position: int
    attempt: int
    started_at: str
    status: Status
    report: AgentReport | None
    reason: str | None = None
    samples_ns: tuple[int, ...] = ()
    accuracy: Accuracy | None = None

    @property
    def key(self) -> str:
        """The unique key of the result, the same for every attempt at it."""
        device, subject = self.device, self.subject
        place = [device.transport, device.name, subject.label, subject.model_sha256, self.round, self.position]
        return digest_of([self.bench, *place])

    @property
    def metrics(self) -> dict[str, float]:
        """The run's numbers by name; a latency only where the clock counts time on a device that is not emulated."""
        if self.report is None:
            return {}
        return metrics_of(self.report, size_bytes=self.subject.size_bytes, accuracy=self.accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A kept run without its raw samples: what tables, comparisons and reports read.

    `accuracy_samples` is over how many samples `metrics["accuracy"]` was taken, None where it was not.
    """

    key: str
    bench: str
    device: DeviceName
    subject: Subject
    conditions: Conditions
    environment: Environment | None
    round: int
    position: int
    attempt: int
    started_at: str
    status: Status
    reason: str | None
    metrics: Mapping[str, float]
    accuracy_samples: int | None = None

    @classmethod
    def of(cls, run: RunRecord) -> RunSummary:
        """The summary of a run."""
        return cls(
            key=run.key,
            bench=run.bench,
            device=run.device,
            subject=run.subject,
            conditions=run.conditions,
            environment=None if run.report is None else run.report.environment,
            round=run.round,
            position=run.position,
            attempt=run.attempt,
            started_at=run.started_at,
            status=run.status,
            reason=run.reason,
            metrics=run.metrics,
            accuracy_samples=None if run.accuracy is None else len(run.accuracy.correct),
        )
