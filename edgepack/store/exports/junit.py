"""JUnit XML as Jenkins' xUnit plugin reads it (junit-10.xsd): a suite for each bench and device, a test case for each run.

A run that was cut off or failed is an error, a void one is skipped. `time` is the median inference in seconds, so that a server draws its history;
it is left out where there is no latency, as on an emulator.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # writes only; nothing is read
from collections.abc import Iterable
from typing import BinaryIO

from edgepack.records import METRICS, RunSummary
from edgepack.store.exports import Kept
from edgepack.store.exports.figures import emulator_of

# What XML 1.0 has no way to say (section 2.2): an agent's last words may hold them.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """UTF-8."""
    suites: dict[tuple[str, str], list[RunSummary]] = {}
    for kept in runs:
        device = kept.summary.device
        suites.setdefault((kept.summary.bench, f"{device.transport}:{device.name}"), []).append(kept.summary)
    root = ET.Element("testsuites", name="edgepack")
    for (bench, device_name), group in suites.items():
        _suite(root, bench, device_name, group)
    ET.indent(root)
    ET.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)


def _suite(root: ET.Element, bench: str, device: str, runs: list[RunSummary]) -> None:
    errors = sum(run.status in ("partial", "failed") for run in runs)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_clean(f"{device} {bench}"),
        tests=str(len(runs)),
        failures="0",
        errors=str(errors),
        skipped=str(sum(run.status == "void" for run in runs)),
        timestamp=_clean(runs[0].started_at),
        hostname=_clean(device),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(runs).items():
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    for run in runs:
        _case(suite, run)


def _facts(runs: list[RunSummary]) -> dict[str, str]:
    facts = {"bench": runs[0].bench, "suite": runs[0].conditions.suite, "threads": str(runs[0].conditions.threads)}
    for run in runs:
        if (environment := run.environment) is not None:
            facts |= {"machine": environment.machine, "kernel": environment.kernel}
            facts["runtime"] = f"{environment.runtime} {environment.runtime_version}"
            if environment.emulated:
                facts["emulated"] = environment.emulated
            break
    return facts


def _case(suite: ET.Element, run: RunSummary) -> None:
    subject = run.subject
    model = ".".join(part for part in (subject.bundle, subject.target, subject.label) if part)
    name = f"{subject.label}, {subject.runtime}, round {run.round}, position {run.position}"
    case = ET.SubElement(suite, "testcase", name=_clean(name), classname=_clean(model))
    if (p50_ms := run.metrics.get("latency_p50_ms")) is not None:
        case.set("time", f"{p50_ms / 1e3:.9f}")
    reason = _clean(run.reason or "no reason was kept")
    if run.status in ("partial", "failed"):
        ET.SubElement(case, "error", type=run.status, message=reason)
    elif run.status == "void":
        ET.SubElement(case, "skipped", type="void", message=reason)
    ET.SubElement(case, "system-out").text = _clean(_told(run))


def _told(run: RunSummary) -> str:
    lines = [f"status: {run.status}, attempt {run.attempt}", f"model: {run.subject.model_sha256}"]
    if emulator := emulator_of(run):
        lines.append(f"emulated by {emulator}: no time of a real device")
    for name, value in run.metrics.items():
        better, unit = METRICS.get(name, ("", ""))
        lines.append(f"{name}: {value:.10g} {unit}" + (f" ({better} is better)" if better else ""))
    return "\n".join(lines)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
