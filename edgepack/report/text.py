"""Numbers as a reader of the page sees them. The exact values stand beside them in `data-value` attributes."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_SIZES = ("B", "kB", "MB", "GB")  # powers of 1000, as in `edgepack bench`
NONE = "–"


def digits(value: float, count: int = 3) -> str:
    r"""A number with so many significant digits, thousands apart by a thin space; powers of ten only where it is tiny or huge.

    >>> digits(12.345), digits(1234567.0), digits(0.000012)
    ('12.3', '1\u202f234\u202f567', '1.2e-05')
    """
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{count - 1}g}"
    exponent = math.floor(math.log10(abs(float(f"{value:.{count}g}"))))
    text = f"{value:,.{max(0, count - 1 - exponent)}f}"
    return text.replace(",", "\u202f").replace("-", "−")


def size(value: float) -> str:
    r"""Bytes with three significant digits.

    >>> size(1234567)
    '1.23\u202fMB'
    """
    unit = _SIZES[0]
    for unit in _SIZES:
        if abs(value) < 999.5 or unit == _SIZES[-1]:
            break
        value /= 1000
    return f"{digits(value) if unit != 'B' else f'{value:.0f}'}\u202f{unit}"


def number(value: float | None, unit: str) -> str:
    """A value with its unit: 'ms', 'bytes', 'share' (as per cent), or any other, written after it; '–' for none."""
    if value is None:
        return NONE
    if unit == "bytes":
        return size(value)
    if unit == "share":
        return f"{100 * value:.2f}\u202f%"
    return f"{digits(value)}\u202f{unit}" if unit else digits(value)


def interval(low: float, high: float, unit: str) -> str:
    r"""Both ends, the unit once, with as many digits as tell the ends apart.

    >>> interval(4.9997, 5.0003, "ms")
    '4.9997 … 5.0003\u202fms'
    """
    if unit == "share":
        return f"{100 * low:.2f} … {100 * high:.2f}\u202f%"
    if unit == "bytes":
        return f"{size(low)} … {size(high)}"
    count = next((count for count in range(3, 9) if digits(low, count) != digits(high, count)), 3)
    return f"{digits(low, count)} … {digits(high, count)}\u202f{unit}".rstrip("\u202f")


def when(moment: str) -> str:
    """An ISO 8601 moment as date and minute, in UTC.

    >>> when("2026-11-20T07:05:09+00:00")
    '2026-11-20 07:05'
    """
    return seconds_of(moment).strftime("%Y-%m-%d %H:%M")


def span(first: str, last: str) -> str:
    """From one moment to another, the day once where it is the same.

    >>> span("2026-11-20T07:05:09+00:00", "2026-11-20T08:05:09+00:00")
    '2026-11-20 07:05 to 08:05'
    """
    began, ended = when(first), when(last)
    if began == ended:
        return began
    return f"{began} to {ended.removeprefix(began[:11])}"


def seconds_of(moment: str) -> datetime:
    """An ISO 8601 moment in UTC; one without a zone is taken as UTC."""
    read = datetime.fromisoformat(moment)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def short(digest: str | None) -> str:
    """The first twelve digits of a checksum or an id."""
    return NONE if not digest else digest[:12]


def tail(name: str, length: int = 48) -> str:
    """The end of a long name, which tells layers apart; of a fused operator's names, joined by ';', that of the first.

    >>> tail("model.Net/blocks_3/layers_0/activation.ReLU6_2;;model.Net/stem;", 24)
    '…rs_0/activation.ReLU6_2'
    """
    first = name.split(";")[0] if len(name) > length else name
    return first if len(first) <= length else f"…{first[1 - length :]}"


def plural(count: int, noun: str) -> str:
    """'1 run', '2 runs', thousands apart."""
    return f"{f'{count:,}'.replace(',', chr(0x202F))} {noun}{'' if count == 1 else 's'}"
