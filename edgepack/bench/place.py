"""The device during a benchmark: agent, models and specs lie on it; laid anew after it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

from edgepack.bench.models import BenchModel
from edgepack.bench.samples import BenchSamples
from edgepack.core.errors import EdgepackError, EnvironmentProblem
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.native import ask_native, native_where_no_python
from edgepack.devices.protocol import DeviceLost, Transport
from edgepack.records import AgentReport
from edgepack.suites import BenchProtocol

What = Literal["time", "outputs", "profile"]
OUTPUTS = "outputs.npz"
_WHATS: tuple[What, ...] = ("time", "outputs", "profile")
_COOLING_LOOK_S = 2.0
_TEMPERATURE = "import glob; print(max((int(open(file).read()) / 1e3 for file in glob.glob('/sys/class/thermal/thermal_zone*/temp')), default=''))"
_WAITS_S = (1.0, 5.0, 15.0, 30.0)


class Place:
    """Asks the agent about one model after another. With `reopen` the device is opened anew after it was lost; else that loss is final."""

    def __init__(
        self,
        device: Transport,
        models: Sequence[BenchModel],
        protocol: BenchProtocol,
        *,
        samples: BenchSamples | None,
        reopen: Callable[[], Transport] | None,
    ) -> None:
        self.device = device
        self._models, self._protocol, self._samples, self._reopen = models, protocol, samples, reopen
        self._opened: Transport | None = None  # what was opened here is closed here
        self._lay()

    @property
    def can_reopen(self) -> bool:
        return self._reopen is not None

    def ask(self, index: int, *, what: What = "time") -> AgentReport:
        """One fresh process for a model; with outputs of all samples in OUTPUTS of the private folder, or with a profile, when asked."""
        model = self._models[index]
        if self._native is not None:
            asked = self._asked[index, what]
            return ask_native(
                self.device, native=self._native, spec=asked, label=model.label, timeout_s=self._protocol.timeout_s
            )
        if (index, what) not in self._specs:
            self._specs[index, what] = put_spec(self.device, self._asked[index, what])
        spec = self._specs[index, what]
        return ask(self.device, agent=self._agent, spec=spec, label=model.label, timeout_s=self._protocol.timeout_s)

    def cool(self) -> None:
        """Wait until the device is cooler than the protocol asks. Raises EnvironmentProblem where it doesn't tell its temperature, or stays hot."""
        limit = self._protocol.cool_below_c
        if limit is None:
            return
        deadline = time.monotonic() + self._protocol.cool_timeout_s
        while (hottest := self._temperature_c()) >= limit:
            if time.monotonic() > deadline:
                raise EnvironmentProblem(
                    f"the device is still at {hottest:.1f} °C after {self._protocol.cool_timeout_s:g} s, not below {limit:g}; "
                    "let it rest, or raise --cool-below"
                )
            time.sleep(_COOLING_LOOK_S)

    def _temperature_c(self) -> float:
        told = self.device.run(["python", "-c", _TEMPERATURE], timeout_s=60).stdout.strip()
        if not told:
            raise EnvironmentProblem(
                "the device tells no temperature (no thermal zone in /sys); leave --cool-below out"
            )
        return float(told)

    def reopen(self) -> None:
        """Reach the device again, in about a minute at most, and lay everything there. Raises the last error when it stays away."""
        assert self._reopen is not None
        last: EdgepackError | None = None
        for wait_s in _WAITS_S:
            time.sleep(wait_s)
            try:
                self._close()
                self.device = self._opened = self._reopen()
                self._lay()
                return
            except DeviceLost as exc:
                last = exc
        assert last is not None
        raise last

    def _lay(self) -> None:
        device = self.device
        self._agent = device.put(agent_file())
        remotes = [device.put(model.path, companions=model.companions) for model in self._models]
        inputs: dict[str, dict[str, str]] = {}
        if self._samples is not None:
            for model in self._models:
                files = self._samples.files[model.label]
                inputs[model.label] = {name: device.put(path) for name, path in files.items()}
        self._native = native_where_no_python(device)
        self._specs: dict[tuple[int, What], str] = {}
        self._asked: dict[tuple[int, What], AgentSpec] = {}
        for index, (model, remote) in enumerate(zip(self._models, remotes, strict=True)):
            for what in _WHATS:
                self._asked[index, what] = _spec(model, remote, self._protocol, inputs.get(model.label), what)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _spec(
    model: BenchModel, remote: str, protocol: BenchProtocol, inputs: dict[str, str] | None, what: What
) -> AgentSpec:
    if what == "profile":  # some hundred timings of each operator are enough; more would make a runtime's log large
        protocol = replace(
            protocol, warmup_min_s=0.0, warmup_max_s=0.0, duration_min_s=min(protocol.duration_min_s, 0.2)
        )
    return AgentSpec(
        model=remote,
        runtime=model.runtime,
        options=dict(model.runtime_options),
        threads=protocol.threads,
        cores=protocol.cores,
        warmup_min_iterations=protocol.warmup_min_iterations,
        warmup_min_s=protocol.warmup_min_s,
        warmup_max_s=protocol.warmup_max_s,
        iterations_min=protocol.iterations_min,
        duration_min_s=protocol.duration_min_s,
        max_s=protocol.max_s,
        seed=protocol.seed,
        inputs=inputs,
        outputs=OUTPUTS if what == "outputs" else None,
        profile=what == "profile",
    )
