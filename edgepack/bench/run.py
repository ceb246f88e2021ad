"""Measures models on a device: fresh processes, interleaved, every raw sample kept. docs/benchmarking.md says why so."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from edgepack.bench.models import BenchModel
from edgepack.bench.place import OUTPUTS, Place, What
from edgepack.bench.result import BenchResult, summarise
from edgepack.bench.samples import BenchSamples, accuracy_of
from edgepack.core.errors import EdgepackError, StageError, UsageError
from edgepack.core.types import Progress
from edgepack.devices.protocol import DeviceLost, Transport
from edgepack.layer_names import with_source_layers
from edgepack.records import Accuracy, AgentReport, Conditions, DeviceState, RunRecord, Status
from edgepack.suites import BenchProtocol, conditions_of

Keep = Callable[[RunRecord], None]
QUICK = BenchProtocol()


def bench(
    models: Sequence[BenchModel],
    *,
    device: Transport,
    protocol: BenchProtocol = QUICK,
    progress: Progress,
    samples: BenchSamples | None = None,
    profile: bool = False,
    keep: Keep | None = None,
    reopen: Callable[[], Transport] | None = None,
    bench_id: str | None = None,
    first_round: int = 0,
) -> BenchResult:
    """Measure models side by side; the first is the baseline of all ratios.

    `samples` are fed in turn instead of a random one, and judged once a model. `profile` adds a process for each model in which single operators are timed, which counts in nothing else. `keep` is handed every run as soon as it ended, also what came home of one that
    was cut off. With `reopen` a lost device is opened anew and the process tried again, `protocol.retries` times. An extension of a benchmark takes its
    `bench_id` and goes on at `first_round`; its result holds the new rounds only.

    Raises UsageError for no models or equal labels, StageError when a process fails, hangs or measured another file, EnvironmentProblem when the device
    lacks the runtime, DeviceLost when it went away and stays away.
    """
    if not models or len({model.label for model in models}) != len(models):
        raise UsageError(f"bench: need models with different labels, got {[model.label for model in models]}")
    session = _Session(
        bench=bench_id or uuid.uuid4().hex, models=models, protocol=protocol, samples=samples, keep=keep or _forget
    )
    with Place(device, models, protocol, samples=samples, reopen=reopen) as place:
        name = place.device.describe()
        progress.start(
            f"Measuring {' and '.join(model.label for model in models)}", total=len(models) * protocol.repetitions
        )
        for number, index in run_order(len(models), protocol.repetitions):
            run = session.measure(place, index, first_round + number)
            progress.advance(note=f"{models[index].label} {_shown(run)}")
        progress.done()
        if profile:
            progress.start("Timing single operators", total=len(models))
            for index in range(len(models)):
                session.profile(place, index, first_round + protocol.repetitions)
                progress.advance()
            progress.done()
    return summarise(session.bench, models, session.records, device=name, protocol=protocol)


def run_order(models: int, repetitions: int) -> tuple[tuple[int, int], ...]:
    """(round, model) of every process: A B, B A, A B, …, so that a slow drift of the machine hits all models alike.

    >>> [model for _, model in run_order(2, 3)]
    [0, 1, 1, 0, 0, 1]
    """
    forward = range(models)
    rounds = (forward if number % 2 == 0 else reversed(forward) for number in range(repetitions))
    return tuple((number, index) for number, indices in enumerate(rounds) for index in indices)


def void_reason(report: AgentReport, protocol: BenchProtocol) -> str | None:
    """The protocol's rule that a run's recorded state breaks, in words; None for a run that counts."""
    states = (report.before, *report.during, report.after)
    if protocol.void_if_throttled and any(state.throttled for state in states):
        return "the device said that it was throttled"
    counts = [state.throttle_count for state in states if state.throttle_count is not None]
    if protocol.void_if_throttled and counts and counts[-1] > counts[0]:
        return f"the device was throttled {counts[-1] - counts[0]} times meanwhile"
    if (jump_s := _clock_jump_s(states)) > protocol.void_clock_jump_s:
        return f"the device's wall clock jumped by {jump_s:.1f} s"
    if protocol.void_load_per_core is not None:
        load = max(state.load_average for state in states) / report.environment.cores
        if load > protocol.void_load_per_core:
            return f"the load average was {load:.2f} per core (limit {protocol.void_load_per_core:g})"
    return None


def _clock_jump_s(states: Sequence[DeviceState]) -> float:
    """How far wall clock and monotonic clock part over a run."""
    offsets = [state.wall_s - state.at_s for state in states if state.wall_s is not None]
    return max(offsets) - min(offsets) if offsets else 0.0


@dataclass
class _Session:
    """The runs of one benchmark so far."""

    bench: str
    models: Sequence[BenchModel]
    protocol: BenchProtocol
    samples: BenchSamples | None
    keep: Keep
    records: list[RunRecord] = field(default_factory=list)
    judged: set[str] = field(default_factory=set)
    position: int = 0

    def measure(self, place: Place, index: int, number: int) -> RunRecord:
        """A run that counts: void ones are kept and measured again, in the same round."""
        repeats = 0
        while True:
            run = self._attempt(place, index, number)
            self.position += 1
            if run.status == "complete":
                return run
            repeats += 1
            if repeats > self.protocol.repeats_max:
                raise StageError(
                    f"bench {run.subject.label}: {repeats} runs in a row were void ({run.reason}); "
                    "let the device cool or rest, or loosen the suite's void_… rules"
                )

    def profile(self, place: Place, index: int, number: int) -> RunRecord:
        """A run of the suite 'profile', with the source model's layers."""
        run = self._attempt(place, index, number, what="profile")
        self.position += 1
        return run

    def _attempt(self, place: Place, index: int, number: int, *, what: What = "time") -> RunRecord:
        model = self.models[index]
        if what == "time" and self.samples is not None and model.label not in self.judged:
            what = "outputs"
        attempt = 1
        while True:
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            run = self._record(place, model, number, attempt, started_at, what)
            try:
                place.cool()
                report = place.ask(index, what=what)
                accuracy = self._judge(place, model) if what == "outputs" else None
            except EdgepackError as exc:
                self._cut_off(run, exc)
                if not isinstance(exc, DeviceLost) or not place.can_reopen or attempt > self.protocol.retries:
                    raise
                place.reopen()
                attempt += 1
                continue
            if report.model_sha256 != model.sha256:
                raise StageError(
                    f"bench {model.label}: {model.path} is not the file that was asked for; build it again"
                )
            report = replace(report, profile=with_source_layers(report.profile, model.path, model.tensors))
            void = void_reason(report, self.protocol) if what != "profile" else None
            status: Status = "complete" if void is None else "void"
            if accuracy is not None:
                self.judged.add(model.label)
            return self._add(replace(run, status=status, report=report, reason=void, accuracy=accuracy))

    def _record(
        self, place: Place, model: BenchModel, number: int, attempt: int, started_at: str, what: What
    ) -> RunRecord:
        protocol = self.protocol
        return RunRecord(
            bench=self.bench,
            device=place.device.describe(),
            subject=model.subject,
            conditions=Conditions(
                suite="profile" if what == "profile" else protocol.suite,
                protocol=conditions_of(protocol),
                threads=protocol.threads,
                affinity=protocol.cores,
                inputs_sha256=None if self.samples is None else self.samples.inputs_sha256,
            ),
            round=number,
            position=self.position,
            attempt=attempt,
            started_at=started_at,
            status="partial",
            report=None,
        )

    def _cut_off(self, run: RunRecord, exc: EdgepackError) -> None:
        """Keep what had come home of a process that was cut off."""
        partial = getattr(exc, "partial", None)
        if partial is not None:
            self._add(replace(run, reason=str(partial.reason), samples_ns=tuple(partial.samples_ns)))

    def _judge(self, place: Place, model: BenchModel) -> Accuracy:
        assert self.samples is not None
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            local = Path(folder) / OUTPUTS
            place.device.get(OUTPUTS, local)
            return accuracy_of(self.samples, model.label, local)

    def _add(self, run: RunRecord) -> RunRecord:
        self.records.append(run)
        self.keep(run)
        return run


def _shown(run: RunRecord) -> str:
    metrics = run.metrics
    if "guest_instructions" in metrics:
        return f"{metrics['guest_instructions']:,.0f} instructions"
    return f"{metrics.get('latency_p50_ms', metrics.get('emulated_p50_ms', 0.0)):.3g} ms"


def _forget(run: RunRecord) -> None:
    """Where nobody keeps runs, the result has them."""
