"""Which runs a query means: the fields of `Where` as conditions on the table of runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, or_, select

from edgepack.core.errors import UsageError
from edgepack.store.sql import schema

if TYPE_CHECKING:
    from edgepack.store.results import Where

_SHA256_DIGITS = 64


def conditions_of(where: Where) -> list[ColumnElement[bool]]:
    """The filter as conditions on runs; nouns are looked up first, so that runs are found by their indexes."""
    t = schema.runs.c
    found = [] if where.status is None else [t.status == where.status]
    if where.bench is not None:
        found.append(t.bench.in_(select(schema.benches.c.id).where(schema.benches.c.name == where.bench)))
    if where.suite is not None:
        found.append(t.conditions.in_(select(schema.conditions.c.id).where(schema.conditions.c.suite == where.suite)))
    if where.device is not None:
        d = schema.devices.c
        named = or_(d.name == where.device, d.transport + ":" + d.name == where.device)
        found.append(t.device.in_(select(d.id).where(named)))
    if subject := _subject_conditions(where):
        found.append(t.subject.in_(select(schema.subjects.c.id).where(*subject)))
    if where.key is not None:
        found.append(t.key.startswith(where.key, autoescape=True))
    if where.since is not None:
        found.append(t.started_at >= _moment(where.since))
    return found


def _subject_conditions(where: Where) -> list[ColumnElement[bool]]:
    s = schema.subjects.c
    names = ("bundle", "version", "target", "label", "runtime")
    found = [s[name] == getattr(where, name) for name in names if getattr(where, name) is not None]
    if (digest := where.model_sha256) is not None:
        whole = len(digest) == _SHA256_DIGITS
        found.append(s.model_sha256 == digest if whole else s.model_sha256.startswith(digest, autoescape=True))
    return found


def _moment(since: str) -> str:
    """As started_at begins, so that texts compare as times do."""
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as exc:
        raise UsageError(f"since '{since}': not a date or time: write it like 2026-11-22 or 2026-11-22T09:30") from exc
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).replace(tzinfo=None).isoformat()
