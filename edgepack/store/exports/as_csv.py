"""CSV (RFC 4180): a line a run, a column a metric with its unit in the name; empty where there is no value."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from edgepack.store.exports import Kept
from edgepack.store.exports.columns import COLUMNS, row


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """UTF-8 with a header line."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    table = csv.DictWriter(text, fieldnames=list(COLUMNS))
    table.writeheader()
    for kept in runs:
        table.writerow(row(kept.summary))
    text.detach()
