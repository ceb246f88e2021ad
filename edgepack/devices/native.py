"""Measures a model with LiteRT's own benchmark program, benchmark_model, on a device without Python (Android).

The program tells statistics, never a single inference, but the one of a process that measures one. So a run is: one process whose statistics give load time, first
inference and memory, then a process for each sample, which warms up and measures one inference. Samples are whole microseconds, as the program counts.
docs/devices.md ("Android") says what that means and how to get the program.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError
from edgepack.devices.agent import AGENT, AgentSpec, CutOff, LostInRun, PartialRun
from edgepack.devices.native_output import NativeRun, read_run, trouble_in
from edgepack.devices.probe import DeviceFacts, shell_facts_of
from edgepack.devices.protocol import CompletedRun, DeviceLost, Transport
from edgepack.records import AgentReport, DeviceState, Environment, Execution, MemoryUse

_RUNTIMES = ("litert", "tflite_runtime")
_MARK = "@edgepack"
_NS = 1000  # the program counts microseconds
_NOT_TOLD = "the native benchmark program and the shell don't tell it"
_FEW_WARMUPS = 10
_PYTHON_S = 60.0
# Between marks: the state, the statistics' process with its memory read while it runs, then a process for each sample, then the state again.
_SCRIPT = """
state() {{
  echo "{mark} $1"
  echo "load $(uptime 2>/dev/null)"; echo "wall $(date +%s)"
  cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null | sed 's/^/governor /'
  for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq; do [ -r "$f" ] && echo "khz $(cat "$f")"; done
  for f in /sys/class/thermal/thermal_zone*/temp; do [ -r "$f" ] && echo "milli_c $(cat "$f" 2>/dev/null)"; done
  grep MemAvailable /proc/meminfo
  dumpsys battery 2>/dev/null | grep -E '^ *(level|status):' | sed 's/^ */battery /'
  dumpsys thermalservice 2>/dev/null | grep -m 1 'Thermal Status:'
  true
}}
chmod 700 {program}
echo "{mark} sha256"; sha256sum {model}
state before
echo "{mark} statistics"
{command} {statistics} >statistics.out 2>&1 & p=$!
while kill -0 $p 2>/dev/null; do
  told=$(grep -s -E '^(VmHWM|VmRSS)' /proc/$p/status); [ -n "$told" ] && last=$told
  faults=$(cut -d ' ' -f 12 /proc/$p/stat 2>/dev/null); [ -n "$faults" ] && majors=$faults
  sleep 0.2
done
wait $p; code=$?
cat statistics.out; echo "{mark} memory"; echo $last majors $majors; [ $code = 0 ] || exit $code
i=0
while [ $i -lt {samples} ]; do
  echo "{mark} sample"; {command} {one} 2>&1 || exit $?
  i=$((i + 1))
done
state after
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeBenchmark:
    """The program on a device: its path there, and the device's facts. `digest` is of the program: it tells no version of its own."""

    program: str
    digest: str
    facts: DeviceFacts


def put_native(device: Transport, program: Path) -> NativeBenchmark:
    """Copy the program to a device. Raises EnvironmentProblem when the file isn't there."""
    try:
        digest = sha256_bytes(program.read_bytes())
    except OSError as exc:
        raise EnvironmentProblem(
            f"{program}: the native benchmark program can't be read: {exc.strerror}; correct `native_benchmark` in devices.toml"
        ) from exc
    return NativeBenchmark(program=device.put(program), digest=digest, facts=shell_facts_of(device))


def native_where_no_python(device: Transport) -> NativeBenchmark | None:
    """The program that devices.toml names for a device, copied there; None where it names none, or where the device has a Python."""
    program = getattr(device, "native_benchmark", None)
    if program is None:
        return None
    try:
        device.run(["python", "-c", ""], timeout_s=_PYTHON_S)
    except DeviceLost:
        raise
    except EnvironmentProblem:
        return put_native(device, program)
    return None


def ask_native(
    device: Transport, *, native: NativeBenchmark, spec: AgentSpec, label: str, timeout_s: float
) -> AgentReport:
    """One run of the native program; as `devices.agent.ask`, with the same errors. Raises UnsupportedError for what it can't do."""
    _check(spec, label)
    try:
        completed = device.run(["sh", "-c", _script(native, spec)], timeout_s=timeout_s)
    except TimeoutError as exc:
        reason = f"one run took longer than {timeout_s:g} s and was killed"
        partial = _partial(str(getattr(exc, "stdout", "")), native, reason)
        raise CutOff(
            f"bench {label}: {reason}; raise the time limit, or ask for fewer samples", partial=partial
        ) from exc
    except DeviceLost as exc:
        partial = _partial(exc.stdout, native, str(exc))
        raise LostInRun(f"bench {label}: {exc}", stdout=exc.stdout, partial=partial) from exc
    parts = _parts(completed.stdout)
    statistics = read_run("".join(parts.get("statistics", [])))
    samples = [read_run(text) for text in parts.get("sample", [])]
    if completed.returncode != 0 or statistics is None or not samples or None in samples:
        raise StageError(f"bench {label}: {_what_failed(completed, parts)}")
    return _report(native, spec, parts, statistics, [sample for sample in samples if sample is not None])


def _check(spec: AgentSpec, label: str) -> None:
    if spec.runtime not in _RUNTIMES:
        raise UnsupportedError(
            f"bench {label}: a device without Python measures LiteRT models only, with benchmark_model, not '{spec.runtime}'"
        )
    if spec.inputs or spec.outputs or spec.profile:
        raise UnsupportedError(
            f"bench {label}: benchmark_model feeds random inputs and keeps no outputs: accuracy and profiles need a Python on the device"
        )


def _script(native: NativeBenchmark, spec: AgentSpec) -> str:
    model, program = shlex.quote(spec.model), shlex.quote(native.program)
    bound = f"taskset {sum(1 << core for core in spec.cores):x} " if spec.cores else ""
    warmups = max(1, spec.warmup_min_iterations)
    statistics = (
        f"--warmup_runs={warmups} --warmup_min_secs={spec.warmup_min_s:g} "
        f"--num_runs={spec.iterations_min} --min_secs={spec.duration_min_s:g} --max_secs={spec.max_s:g}"
    )
    return _SCRIPT.format(
        mark=_MARK,
        program=program,
        model=model,
        command=f"{bound}{program} --graph={model} --num_threads={spec.threads}",
        statistics=statistics,
        one=f"--warmup_runs={min(warmups, _FEW_WARMUPS)} --warmup_min_secs=0 --num_runs=1 --min_secs=0 --max_secs={spec.max_s:g}",
        samples=spec.iterations_min,
    )


def _parts(stdout: str) -> dict[str, list[str]]:
    """The texts after each mark, by its word."""
    parts: dict[str, list[str]] = {}
    for part in stdout.split(f"{_MARK} ")[1:]:
        word, _, text = part.partition("\n")
        parts.setdefault(word, []).append(text)
    return parts


def _report(
    native: NativeBenchmark, spec: AgentSpec, parts: Mapping[str, list[str]], told: NativeRun, samples: list[NativeRun]
) -> AgentReport:
    before = _state(parts.get("before", [""])[0], began_s=None)
    after = _state(parts.get("after", [""])[0], began_s=before.wall_s)
    return AgentReport(
        agent=AGENT,
        model_sha256=parts["sha256"][0].split()[0],
        threads=spec.threads,
        load_ms=told.init_us / 1e3,
        first_ms=told.first_us / 1e3,
        warmup_ns=(),
        samples_ns=tuple(round(sample.measured.first_us * _NS) for sample in samples),
        stopped_early=len(samples) < spec.iterations_min,
        memory=_memory(parts["memory"][0], told, samples[0]),
        environment=_environment(native),
        execution=_execution(told, spec),
        before=before,
        after=after,
    )


def _execution(told: NativeRun, spec: AgentSpec) -> Execution:
    median = "" if told.measured.median_us is None else f", median {told.measured.median_us:g} µs"
    notes = (
        f"benchmark_model: each sample is the one measured inference of a process of its own, after {min(max(1, spec.warmup_min_iterations), _FEW_WARMUPS)} of warm-up",
        f"its own statistics of one process: {told.measured.count} inferences, mean {told.measured.mean_us:g} µs{median}",
        "inputs are random; threads and cores were asked for, not read back",
    )
    return Execution(
        device="CPU" if told.delegate in (None, "TfLiteXNNPackDelegate") else str(told.delegate),
        notes=notes,
        delegate=told.delegate,
        delegated_nodes=told.delegated_nodes,
        nodes=told.nodes,
    )


def _environment(native: NativeBenchmark) -> Environment:
    facts = native.facts
    cores = sum(facts.cores.values()) or 1
    system, _, kernel = facts.kernel.partition(" ")
    return Environment(
        system=system,
        kernel=kernel,
        machine=facts.machine,
        cpu_model=", ".join(facts.cores) or None,
        cores=cores,
        usable_cores=cores,
        python="none",
        numpy="none",
        timer_resolution_ns=float(_NS),
        runtime="litert",
        runtime_version=f"benchmark_model {native.digest[:12]}",
        os_name=facts.os_name,
        libc=facts.libc,
        soc=facts.soc,
        memory_bytes=facts.memory_bytes,
        boot_id=facts.boot_id,
        emulated=facts.emulated,
        clock=facts.clock,
        missing={
            "python": "none on the device: measured by benchmark_model",
            "usable_cores": "all are taken for usable: the shell doesn't tell",
        },
    )


def _memory(text: str, told: NativeRun, short: NativeRun) -> MemoryUse:
    """From VmHWM, read five times a second until the process ended, and from how much the program says that its largest resident size grew."""
    words = text.replace(":", " ").split()
    values = {name: int(words[words.index(name) + 1]) * 1024 for name in ("VmHWM", "VmRSS") if name in words}
    majors = words[words.index("majors") + 1] if words and words[-1] != "majors" else "0"
    peak = values.get("VmHWM", 0)
    before = max(0, peak - (told.overall_grown_bytes or 0))
    missing = {
        "after_first_bytes": "the largest size after the second inference, in a process of its own",
        "after_load_bytes": "the largest size until then, as the program tells it",
        "pss_bytes": _NOT_TOLD,
    }
    if not peak:
        missing["peak_bytes"] = "the process ended before its memory could be read; 0 stands for unknown"
    return MemoryUse(
        before_load_bytes=before,
        after_load_bytes=before + (told.init_grown_bytes or 0),
        after_first_bytes=before + (short.overall_grown_bytes or 0),
        after_run_bytes=values.get("VmRSS", peak),
        peak_bytes=peak,
        major_faults=int(majors) if majors.isdigit() else 0,
        peak_not_reset="counted from the process's start: a native program can't reset it; read five times a second",
        missing=missing,
    )


def _state(text: str, *, began_s: float | None) -> DeviceState:
    """`at_s` is by the wall clock, too, which is all that every shell tells: a jump of that clock goes unseen."""
    lines = [(key, value.strip()) for key, _, value in (line.partition(" ") for line in text.splitlines())]
    first: dict[str, Any] = dict(reversed(lines))
    celsius = [float(value) / 1000 for key, value in lines if key == "milli_c" and value.lstrip("-").isdigit()]
    frequencies = tuple(float(value) / 1000 for key, value in lines if key == "khz" and value.isdigit())
    loads = first.get("load", "").rpartition("load average:")[2].split(",")[0].strip()
    free = "".join(filter(str.isdigit, first.get("MemAvailable:", "")))
    battery = dict(value.split(": ", 1) for key, value in lines if key == "battery" and ": " in value)
    thermal = text.rpartition("Thermal Status:")[2].strip()[:1]
    found = {
        "governor": first.get("governor"),
        "frequencies_mhz": frequencies or None,
        "temperature_c": max(celsius) if celsius else None,
        "free_memory_bytes": int(free) * 1024 if free else None,
        "battery_percent": float(battery["level"]) if "level" in battery else None,
        "charging": None
        if "status" not in battery
        else battery["status"] in ("2", "5"),  # BatteryManager's CHARGING, FULL
        "thermal_status": int(thermal) if thermal.isdigit() and "Thermal Status:" in text else None,
        "throttled": None,
        "throttle_count": None,
    }
    missing = {name: _NOT_TOLD for name, value in found.items() if value is None}
    if not loads:
        missing["load_average"] = "the device doesn't tell it; 0 stands for unknown"
    wall_s = float(first["wall"]) if first.get("wall", "").isdigit() else None
    at_s = wall_s - began_s if wall_s is not None and began_s is not None else 0.0
    return DeviceState(load_average=float(loads or 0), at_s=at_s, wall_s=wall_s, missing=missing, **found)  # type: ignore[arg-type]


def _partial(stdout: str, native: NativeBenchmark, reason: str) -> PartialRun:
    whole = [run for run in (read_run(text) for text in _parts(stdout).get("sample", [])) if run is not None]
    samples = tuple(round(run.measured.first_us * _NS) for run in whole)
    return PartialRun(samples_ns=samples, warmup_ns=(), reason=reason, environment=_environment(native))


def _what_failed(completed: CompletedRun, parts: Mapping[str, list[str]]) -> str:
    said = trouble_in("".join(parts.get("sample", parts.get("statistics", [])))[-4000:] + completed.stderr)
    if completed.returncode == 126 or "not executable" in said or "Exec format error" in completed.stdout:
        return f"benchmark_model doesn't run on this device: {said}; take the one that was built for its processor and system"
    return f"benchmark_model ended with exit code {completed.returncode}: {said}"
