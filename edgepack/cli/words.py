"""Numbers as a person reads them: bytes, durations, shares, intervals."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("B", "kB", "MB", "GB")  # powers of 1000, as disks and download sizes are told


def size(size_bytes: float) -> str:
    """Three significant digits.

    >>> size(1234567)
    '1.23 MB'
    """
    value, unit = float(size_bytes), _UNITS[0]
    for unit in _UNITS:
        if round(value, 1) < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{digits(value)} {unit}"


def digits(value: float, count: int = 3) -> str:
    """A number with so many significant digits; no powers of ten between 0.0001 and a million.

    >>> digits(12.345), digits(1234.5), digits(2.0)
    ('12.3', '1234', '2.00')
    """
    if not 1 <= abs(rounded := float(f"{value:.{count}g}")) < 1e6:
        return f"{value:.{count}g}"
    return f"{value:.{max(0, count - len(str(int(abs(rounded)))))}f}"


def duration(seconds: float) -> str:
    """Whole seconds from ten on, then minutes and hours.

    >>> duration(0.3), duration(41.2), duration(125)
    ('0.3 s', '41 s', '2 min 5 s')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(share: float) -> str:
    """A share in 0…1.

    >>> percent(0.9123)
    '91.23 %'
    """
    return f"{100 * share:.2f} %"


def quantity(name: str, value: float) -> str:
    """A value with the unit that the end of its name tells.

    >>> quantity("size_bytes", 2_000_000), quantity("latency_p50_ms", 1.5), quantity("top1_agreement", 0.9975)
    ('2.00 MB', '1.50 ms', '0.9975')
    """
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("_ms"):
        return f"{digits(value)} ms"
    if name.endswith("_points"):
        return f"{value:.2f} points"
    return f"{value:.4g}"


def interval(name: str, bounds: Sequence[float] | None) -> str:
    """Both ends in the unit of the name, said once where it is the same; '' where there is none.

    >>> interval("drop_points", (-0.5, 1.0))
    '-0.50 … 1.00 points'
    """
    if bounds is None:
        return ""
    ends = [quantity(name, bound) for bound in bounds]
    units = {end.partition(" ")[2] for end in ends}
    if len(units) == 1:
        ends[:-1] = [end.partition(" ")[0] for end in ends[:-1]]
    return " … ".join(ends)


def shortened(items: Sequence[str], *, at_most: int = 8) -> str:
    """The first names, and how many more there are."""
    rest = len(items) - at_most
    return ", ".join(items[:at_most]) + (f", … ({rest} more)" if rest > 0 else "")
