"""Sizes as a person writes them."""

from __future__ import annotations

import re

_FACTOR = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = re.compile(r"\s*(-?[0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")


def bytes_of(written: object) -> int:
    """A size in bytes, from a number of bytes or from a number with a unit: B, kB, MB, GB (powers of 1000), KiB, MiB, GiB.

    Raises ValueError for anything else.

    >>> bytes_of("60 kB"), bytes_of("1.5 MiB"), bytes_of(512)
    (60000, 1572864, 512)
    """
    if isinstance(written, int) and not isinstance(written, bool):
        return written
    found = _SIZE.match(written) if isinstance(written, str) else None
    if found is None or found[2] not in _FACTOR:
        raise ValueError(f"must be a size such as 60000, '60 kB' or '1.5 MB', got {written!r}")
    return round(float(found[1].replace("_", "")) * _FACTOR[found[2]])
