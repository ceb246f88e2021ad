"""Elements of SVG as escaped text, scales from values to places, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 400  # a phone's width: figures are shown at about this size everywhere, side by side where there is room
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; `_` in a name means `-`, a leading `class_` is `class`, None leaves an attribute out. Values of `data_…` stay exact, others are places.

    >>> tag("text", "a < b", class_="axis", x=1.25, data_value=0.1)
    Markup('<text class="axis" x="1.25" data-value="0.1">a &lt; b</text>')
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_written(key, value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(part) for part in inside)
    return Markup(f"<{name}{written}>{content}</{name}>")  # every part is escaped above


def join(parts: Iterable[Markup]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def picture(*inside: object, height: float, title: str) -> Markup:
    """A whole figure that scales with its column; `title` says to a screen reader what it shows."""
    return tag("svg", *inside, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=title, class_="figure")


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "axis") -> Markup:
    """A line of text."""
    return tag("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **more: object) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **more)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    places = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{places}{'Z' if closed else ''}", class_=class_)


def marker(shape: int, x: float, y: float, radius: float, class_: str, **more: object) -> Markup:
    """One of six shapes, so that series differ without colour, too."""
    sides = _SHAPES[shape % len(_SHAPES)]
    if sides is None:
        return tag("circle", cx=x, cy=y, r=radius, class_=class_, **more)
    places = " ".join(f"{x + radius * a:.1f},{y + radius * b:.1f}" for a, b in sides)
    return tag("polygon", points=places, class_=class_, **more)


_SHAPES: tuple[tuple[tuple[float, float], ...] | None, ...] = (
    None,
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    (
        (-0.4, -1.2),
        (0.4, -1.2),
        (0.4, -0.4),
        (1.2, -0.4),
        (1.2, 0.4),
        (0.4, 0.4),
        (0.4, 1.2),
        (-0.4, 1.2),
        (-0.4, 0.4),
        (-1.2, 0.4),
        (-1.2, -0.4),
        (-0.4, -0.4),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values low…high to places start…end, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(value) if self.log else value
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """Round values on the scale."""
        if self.log:
            found = log_ticks(self.low, self.high)
            return found if len(found) >= 2 else round_ticks(self.low, self.high, count)
        return round_ticks(self.low, self.high, count)


def round_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """About `count` round values in low…high.

    >>> round_ticks(0.13, 0.92)
    (0.2, 0.4, 0.6, 0.8)
    """
    step = _round_step((high - low) / max(1, count))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten in low…high; powers alone where those would be many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    every = (float(f"{digit}e{decade}") for decade in decades for digit in digits)
    return tuple(value for value in every if low <= value <= high)


def padded(values: Sequence[float], *, share: float = 0.08, from_zero: bool = False) -> tuple[float, float]:
    """The range of values with a margin; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    return (0.0 if from_zero else low - margin), high + margin


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(base for base in _ROUND if base * power >= rough * 0.999) * power


def _written(key: str, value: object) -> str:
    if isinstance(value, float):
        return repr(value) if key.startswith("data_") else f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
