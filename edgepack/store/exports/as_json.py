"""JSON: every run as edgepack has it; with raw samples a run can be made again of what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from edgepack import __version__
from edgepack.records import METRICS
from edgepack.store.exports import Kept
from edgepack.store.sql.codec import to_fields

SCHEMA = "edgepack.results/1"


def write(runs: Iterable[Kept], stream: BinaryIO) -> None:
    """One object; `runs` holds a summary each, and with samples `record` in it: a whole RunRecord (records.py)."""
    metrics = {name: {"better": better, "unit": unit} for name, (better, unit) in METRICS.items()}
    head = {"schema": SCHEMA, "edgepack": __version__, "metrics": metrics}
    stream.write(_text(head).removesuffix("}").encode() + b',\n"runs": [')
    for number, text in enumerate(_runs(runs)):
        stream.write((",\n" if number else "\n").encode() + text.encode())
    stream.write(b"\n]}\n")


def _runs(runs: Iterable[Kept]) -> Iterator[str]:
    for kept in runs:
        fields = to_fields(kept.summary)
        if kept.record is not None:
            fields["record"] = to_fields(kept.record)
        yield _text(fields)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
