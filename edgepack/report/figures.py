"""Every number of the report, before anything is drawn: the page's embedded JSON and `edgepack report --json` are this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from edgepack.records import METRICS
from edgepack.report.details import Detail, details_of, rows_to_draw, runs_to_draw
from edgepack.report.distribution import DistributionPanel, distributions
from edgepack.report.doubts import Doubt, doubts_of
from edgepack.report.fleet import FleetPanel, fleets
from edgepack.report.history import History, history_of
from edgepack.report.material import Material
from edgepack.report.memory import MemoryPanel, memories
from edgepack.report.panels import place_of
from edgepack.report.profile import Profile, profiles
from edgepack.report.rows import Number, Row, Rows, rows_of, title_of
from edgepack.report.state import StatePanel, states
from edgepack.report.tradeoff import TradeoffPanel, tradeoffs

SCHEMA = "edgepack.report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class HowMeasured:
    """What ran in a drawn row, as its first whole run tells."""

    row: str
    execution_device: str
    types: dict[str, int]
    threads: int | None
    affinity: tuple[int, ...] | None
    delegate: str | None
    delegated_nodes: int | None
    nodes: int | None
    warmup_stable: bool | None
    accuracy_metric: str | None
    agreement: float | None
    max_steps: float | None
    energy_sensor: str | None
    energy_rate_hz: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures. `drawn` are the rows in figures of whole runs: all, or where they are many some of them (details.rows_to_draw)."""

    rows: Rows
    drawn: tuple[str, ...]
    runs_per_row_max: int
    fleets: tuple[FleetPanel, ...]
    distributions: tuple[DistributionPanel, ...]
    tradeoffs: tuple[TradeoffPanel, ...]
    memories: tuple[MemoryPanel, ...]
    profiles: tuple[Profile, ...]
    history: History
    states: tuple[StatePanel, ...]
    how: tuple[HowMeasured, ...]
    doubts: tuple[Doubt, ...]

    def row(self, identity: str) -> Row:
        """A row by its id."""
        rows = self.rows.profiled if identity.startswith("p") else self.rows.rows
        return rows[int(identity[1:])]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able. Single runs of a row are in `distributions` alone."""
        content = {
            name: _plain(getattr(self, name)) for name in self.__dataclass_fields__ if name not in ("rows", "drawn")
        }
        return {
            "schema": SCHEMA,
            "metrics": {name: {"better": better, "unit": unit} for name, (better, unit) in METRICS.items()},
            "rows": [_row_dict(row) for row in self.rows.rows],
            "profiled": [_row_dict(row) for row in self.rows.profiled],
            "excluded": _plain(self.rows.excluded),
            "excluded_total": self.rows.excluded_total,
            "excluded_reasons": _plain(self.rows.excluded_reasons),
            "drawn": list(self.drawn),
            **content,
        }


def figures_of(material: Material) -> Figures:
    """Figures of runs; whole runs are read once and reduced as they come."""
    rows = rows_of(material.runs, by_bench=material.by_bench)
    drawn = rows_to_draw(rows.rows)
    profiled = rows_to_draw(rows.profiled)
    wanted = (*drawn, *profiled)
    limit = runs_to_draw(len(wanted))
    whole = details_of(material.details(wanted, limit=limit), wanted, by_bench=material.by_bench, limit=limit)
    return Figures(
        rows=rows,
        drawn=tuple(row.id for row in drawn),
        runs_per_row_max=limit,
        fleets=fleets(rows.rows),
        distributions=distributions(drawn, whole),
        tradeoffs=tradeoffs(drawn),
        memories=memories(drawn, whole),
        profiles=profiles(profiled, whole),
        history=history_of(material.history(drawn), tuple(dict.fromkeys(place_of(row) for row in drawn))),
        states=states(drawn, whole),
        how=_how(drawn, whole),
        doubts=doubts_of(rows, whole),
    )


def _how(rows: Sequence[Row], details: Sequence[Detail]) -> tuple[HowMeasured, ...]:
    found = []
    for row in rows:
        runs = [one for one in details if one.row.id == row.id]
        if not runs:
            continue
        report, execution, energy = runs[0].report, runs[0].report.execution, runs[0].report.energy
        accuracy = next((one.run.accuracy for one in runs if one.run.accuracy is not None), None)
        found.append(
            HowMeasured(
                row=row.id,
                execution_device=execution.device,
                types=dict(execution.types),
                threads=execution.threads,
                affinity=execution.affinity,
                delegate=execution.delegate,
                delegated_nodes=execution.delegated_nodes,
                nodes=execution.nodes,
                warmup_stable=report.warmup_stable,
                accuracy_metric=accuracy.metric if accuracy else None,
                agreement=accuracy.agreement if accuracy else None,
                max_steps=accuracy.max_steps if accuracy else None,
                energy_sensor=energy.sensor if energy else None,
                energy_rate_hz=energy.rate_hz if energy else None,
            )
        )
    return tuple(found)


def _row_dict(row: Row) -> dict[str, Any]:
    left_out = ("run_values", "numbers")
    content = {name: _plain(getattr(row, name)) for name in row.__dataclass_fields__ if name not in left_out}
    numbers = {name: _number_dict(number) for name, number in row.numbers.items()}
    return {**content, "title": title_of(row.subject), "metric": row.metric, "numbers": numbers}


def _number_dict(number: Number) -> dict[str, Any]:
    """With why there is no value, or with what belongs to one."""
    if number.value is None:
        return {"value": None, "why_none": number.why_none}
    return {name: value for name, value in _plain(number).items() if name != "why_none"}


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists: what JSON gives back."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
