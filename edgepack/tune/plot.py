"""Size against loss as a picture of letters, for a terminal."""

from __future__ import annotations

import math

from edgepack.report.text import size
from edgepack.tune.front import LAST
from edgepack.tune.search import Found

_WIDTH, _HEIGHT = 56, 12
_CUT_POINTS = 10.0


def text_plot(found: Found) -> str:
    """The trials that were fully trained: `●` on the Pareto front, `·` not, `◆` the recommended one; bytes to the right, logarithmic, points lost upwards."""
    rows = [row for row in found.rows if row.trial.rung == LAST]
    if len(rows) < 2:
        return ""
    sizes = [math.log(found.budget.size(row.numbers)) for row in rows]
    cut = min(row.numbers.drop_points for row in rows) + _CUT_POINTS
    drops = [min(row.numbers.drop_points, cut) for row in rows]
    canvas = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    chosen = None if found.chosen is None else found.chosen.row.trial.number
    order = sorted(range(len(rows)), key=lambda i: (rows[i].trial.number == chosen, rows[i].on_front))
    for i in order:
        across = _place(sizes[i], min(sizes), max(sizes), _WIDTH)
        up = _place(drops[i], min(drops), max(drops), _HEIGHT)
        sign = "◆" if rows[i].trial.number == chosen else "●" if rows[i].on_front else "·"
        canvas[_HEIGHT - 1 - up][across] = sign
    return "\n".join(_framed(canvas, sizes, drops))


def _place(value: float, low: float, high: float, count: int) -> int:
    return 0 if high <= low else round((value - low) / (high - low) * (count - 1))


def _framed(canvas: list[list[str]], sizes: list[float], drops: list[float]) -> list[str]:
    marks = {0: f"{max(drops):+.2f}", _HEIGHT - 1: f"{min(drops):+.2f}"}
    lines = ["points lost"]
    lines += [f"{marks.get(number, ''):>8} │{''.join(cells)}" for number, cells in enumerate(canvas)]
    left, right = size(math.exp(min(sizes))), size(math.exp(max(sizes)))
    return [*lines, f"{'':>8} └{'─' * _WIDTH}", f"{'':>10}{left}{right:>{_WIDTH - len(left)}}"]
