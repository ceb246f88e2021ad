"""What two results must have in common to be compared, and what differs where they don't."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgepack.core.errors import UsageError
from edgepack.records import Conditions, DeviceName, Environment, RunSummary

# How many runs, and when one counts as hung, don't change what one run measures.
FREE_BOUNDS = frozenset({"repetitions", "timeout_s"})
# Of the same device: what it is, what it ran, and what its clock counts.
_MUST_MATCH: tuple[tuple[str, str], ...] = (
    ("machine", "architecture"),
    ("cpu_model", "CPU"),
    ("soc", "SoC"),
    ("cores", "cores"),
    ("emulated", "emulator"),
    ("clock", "clock"),
    ("runtime", "runtime"),
    ("runtime_version", "runtime's version"),
)
_CONDITIONS: tuple[tuple[str, str], ...] = (
    ("threads", "threads"),
    ("affinity", "cores it was bound to"),
    ("inputs_sha256", "input samples"),
)
_WORTH_A_NOTE: tuple[tuple[str, str], ...] = (
    ("os_name", "operating system"),
    ("kernel", "kernel"),
    ("python", "Python"),
    ("numpy", "NumPy"),
    ("boot_id", "boot"),
)
_LINES, _CHARACTERS = 20, 60


def refuse_unlike(
    a: str, b: str, a_runs: Mapping[DeviceName, Sequence[RunSummary]], b_runs: Mapping[DeviceName, Sequence[RunSummary]]
) -> tuple[DeviceName, ...]:
    """The devices on both sides, in a's order. Raises UsageError naming every fact that differs, with both values."""
    shared = tuple(one for one in a_runs if one in b_runs)
    if not shared:
        sides = [", ".join(sorted(map(shown_device, runs))) for runs in (a_runs, b_runs)]
        raise UsageError(
            f"'{a}' and '{b}' can't be compared: no device has runs of both: '{a}' ran on {sides[0]}, '{b}' on {sides[1]}; "
            "measure both on the same device"
        )
    found = []
    for device in shared:
        where = f"{shown_device(device)}: " if len(shared) > 1 else ""
        found += [f"{where}{line}" for line in _differences(a_runs[device], b_runs[device], a=a, b=b)]
    if found:
        listed = "\n".join(f"  {line}" for line in found[:_LINES])
        more = f"\n  … and {len(found) - _LINES} more" if len(found) > _LINES else ""
        raise UsageError(
            f"'{a}' and '{b}' can't be compared, because these differ:\n{listed}{more}\n"
            "measure both with the same device, runtime, threads, protocol and data: best in turns, with 'edgepack bench NEW --against OLD'"
        )
    return shared


def notes_on(a: str, b: str, a_runs: Sequence[RunSummary], b_runs: Sequence[RunSummary]) -> list[str]:
    """What differs without forbidding the comparison: worth knowing when something did change."""
    found = []
    for field, words in _WORTH_A_NOTE:
        sides = [_values(_environments(runs), field) for runs in (a_runs, b_runs)]
        if sides[0] != sides[1] and None not in (*sides[0], *sides[1]):
            anew = "the device was started anew in between"
            found.append(anew if field == "boot_id" else f"{words}: {_both(a, b, sides)}")
    for name, runs in ((a, a_runs), (b, b_runs)):
        if len({run.subject.model_sha256 for run in runs}) > 1:
            found.append(f"'{name}' holds runs of several model files")
    return found


def shown_device(device: DeviceName) -> str:
    """A device's name, with its transport where that isn't this machine."""
    return device.name if device.transport == "local" else f"{device.transport}:{device.name}"


def _differences(a_runs: Sequence[RunSummary], b_runs: Sequence[RunSummary], *, a: str, b: str) -> list[str]:
    facts = [_facts(side) for side in (a_runs, b_runs)]
    lines = []
    for name in dict.fromkeys((*facts[0], *facts[1])):
        values = [side.get(name, [None]) for side in facts]
        if len(values[0]) > 1 or values[0] != values[1]:
            lines.append(f"{name}: {_both(a, b, values)}")
    return lines


def _facts(runs: Sequence[RunSummary]) -> dict[str, list[Any]]:
    """Every value of every fact; more than one means that the runs of one side aren't alike, either."""
    environments, conditions = _environments(runs), _conditions(runs)
    facts = {words: _values(environments, field) for field, words in _MUST_MATCH}
    facts |= {words: _values(conditions, field) for field, words in _CONDITIONS}
    bounds = sorted({name for one in conditions for name in one.protocol} - FREE_BOUNDS)
    return facts | {f"protocol's {name}": _distinct(one.protocol.get(name) for one in conditions) for name in bounds}


def _environments(runs: Sequence[RunSummary]) -> list[Environment]:
    """Each object once: runs from the store share them, and there may be hundreds of thousands."""
    return list({id(run.environment): run.environment for run in runs if run.environment is not None}.values())


def _conditions(runs: Sequence[RunSummary]) -> list[Conditions]:
    return list({id(run.conditions): run.conditions for run in runs}.values())


def _values(parts: Sequence[object], field: str) -> list[Any]:
    return _distinct(getattr(part, field) for part in parts)


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return sorted(found, key=repr)


def _both(a: str, b: str, values: Sequence[Sequence[Any]]) -> str:
    sides = [", ".join(_shown(one) for one in side) for side in values]
    return f"{sides[0]} ('{a}'), {sides[1]} ('{b}')"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"
