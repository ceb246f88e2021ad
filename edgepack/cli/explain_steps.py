"""The table of what each step of a build bought, and the lines that say what the shares of a loss are parts of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from edgepack.cli.tables import plain_table
from edgepack.cli.words import digits, percent, size
from edgepack.core.text import printable

if TYPE_CHECKING:
    from edgepack.explain import Account
    from edgepack.explain.facts import StepAccount, Steps

_NONE = "[dim]–[/]"


def _signed(value: float) -> str:
    """With its sign, but for a zero."""
    return f"{value:+.2f}" if round(value, 2) else "0.00"


# In the order in which they stand: the value of a step, and how it is written.
_COLUMNS: dict[str, tuple[Callable[[StepAccount], float | None], Callable[[float], str]]] = {
    "parameters": (lambda one: one.parameters, lambda value: f"{value:,.0f}"),
    "not 0": (lambda one: one.nonzero_parameters, lambda value: f"{value:,.0f}"),
    "MACs": (lambda one: one.macs, lambda value: f"{value:,.0f}"),
    "file": (lambda one: one.file_bytes, size),
    "coded": (lambda one: one.coded_bytes, size),
    "ms": (lambda one: one.latency_p50_ms, digits),
    "quality": (lambda one: one.accuracy, percent),
    "points": (lambda one: -one.drop_points, _signed),
}
# In the order in which they get a place on a narrow terminal.
_WANTED = ("coded", "quality", "points", "ms", "file", "MACs", "parameters", "not 0")
_UNCHANGING = ("quality", "points")  # a change in per cent says nothing of them


def steps_table(steps: Steps, *, width: int) -> Table:
    """A row for the original and for each step, each number with its change against the row above where there is room."""
    names = [escape(printable(one.step)) for one in steps.rows]
    room = width - max(8, *map(len, names)) - 4
    changing = {name: _cells(steps, name, with_change=True) for name in _COLUMNS}
    plain = {name: _cells(steps, name, with_change=False) for name in _COLUMNS}
    shown = _fitting(changing, room)
    cells = changing
    if len(shown) < len(_fitting(plain, room)):
        cells, shown = plain, _fitting(plain, room)
    rows = [(name, *(cells[column][place] for column in shown)) for place, name in enumerate(names)]
    heads = {(steps.metric if name == "quality" else name): "right" for name in shown}
    return plain_table("After each step", {"step": "left", **heads}, rows)


def _cells(steps: Steps, name: str, *, with_change: bool) -> list[str]:
    value, written = _COLUMNS[name]
    found, before = [], None
    for one in steps.rows:
        now = value(one)
        cell = _NONE if now is None else written(now)
        if with_change and name not in _UNCHANGING and now is not None and before:
            change = round(100 * (now / before - 1))
            cell += f" {change:+4d} %" if change else " " * 7
        found.append(cell)
        before = now
    return found


def _fitting(cells: dict[str, list[str]], room: int) -> list[str]:
    """The columns that have a value and find room, in the order in which they stand."""
    chosen = []
    for name in _WANTED:
        needed = max(len(name), *(len(cell) for cell in cells[name] if cell != _NONE), 1) + 3
        if needed <= room and any(cell != _NONE for cell in cells[name]):
            chosen.append(name)
            room -= needed
    return [name for name in _COLUMNS if name in chosen]


def about_steps(steps: Steps) -> list[tuple[str, str]]:
    """What the numbers of the steps' table are, and what is not in it."""
    told = (
        f"each model exported for {steps.target} and judged on {steps.samples:,} evaluation samples; coded: as 'edgepack pack' packs its file; "
        f"points of {steps.metric} against the original"
    )
    last = steps.rows[-1]
    low, high = (-bound for bound in reversed(last.drop_ci95))
    sure = f", after the last step {_signed(-last.drop_points)} (95 % interval {_signed(low)} … {_signed(high)})"
    lost = [(f"no {name}", escape(printable(reason))) for name, reason in steps.failed.items()]
    return [("steps", escape(told + sure)), *lost]


def about_losses(account: Account) -> list[tuple[str, str]]:
    """What the columns sensitivity, share and points are measured with, and what the shares are parts of."""
    losses = account.losses
    if losses is None:
        return []
    pairs = [
        (
            "sensitivity",
            f"distance of the {losses.reference}'s outputs when this layer alone is rounded to {losses.bits} bits, mean of {losses.samples:,} calibration samples",
        )
    ]
    if losses.distance is not None and losses.activations_share is not None:
        others = [("other parameters", losses.other_share), ("rounded activations", losses.activations_share)]
        rest = ", ".join(f"{name} {percent(round(share, 4) or 0.0)}" for name, share in others if share is not None)
        pairs.append(
            (
                "share",
                f"of the compressed network's distance from the {losses.reference}, {losses.distance:.3g}, on the straight way from the one's weights to the other's; "
                f"with {rest} it makes 100 %. Negative: it undoes some of what others do",
            )
        )
    if losses.points is not None:
        pairs.append(
            (
                "points",
                f"what the {losses.reference} loses with this layer alone as the bundle has it (layers trained together make up for each other); the bundle lost {losses.points:.2f} on {losses.points_samples:,} evaluation samples",
            )
        )
    return pairs
