"""The tables that commands draw, each from values of the other rooms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from edgepack.cli.words import digits, duration, interval, percent, quantity, size
from edgepack.core.text import printable

if TYPE_CHECKING:
    from edgepack.bundle.golden import GoldenResult
    from edgepack.bundle.manifest import CheckEntry, Manifest, Tensor, Variant
    from edgepack.diff import TensorDifference
    from edgepack.stages.outline import StageOutline

_FILES_MAX = 50
_YES, _NO = "[green]✓[/]", "[bold red]✗[/]"


def plain_table(title: str, columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with a title; `columns` maps each header to 'left' or 'right'. Cells are rich markup."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.ROUNDED, header_style="bold")
    for header, side in columns.items():
        table.add_column(header, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values in two columns without lines; empty values are left out. Values are rich markup."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            table.add_row(name, value)
    return table


def checks_table(checks: Sequence[CheckEntry]) -> Table:
    """Every check of a build: what was found, what is allowed, and how sure that is."""
    rows = [
        (
            check.kind,
            escape(printable(check.name)),
            quantity(check.name, check.value),
            f"{'≤' if check.direction == 'max' else '≥'} {quantity(check.name, check.limit)}",
            "" if check.samples is None else f"{check.samples:,}",
            interval(check.name, check.ci95),
            _YES if check.passed else _NO,
        )
        for check in checks
    ]
    columns = {"check": "left", "name": "left", "value": "right", "limit": "right", "samples": "right"}
    return plain_table("", {**columns, "95 % CI": "right", "passed": "left"}, rows)


def parity_tables(parity: Mapping[str, Any]) -> tuple[Table, ...]:
    """How the models of a build compare on the same samples, and its runtimes with each other. `parity` is reports/parity.json."""
    rows = []
    for row in parity["rows"]:
        compared = row["agreement"] is not None
        low, high = row["metric_ci95"]
        rows.append(
            (
                escape(row["name"]),
                escape(f"{row['runtime']} {row['version']}"),
                percent(row["metric"]),
                f"{100 * low:.2f} … {percent(high)}",
                percent(row["agreement"]) if compared else "",
                f"{row['mean_steps']:.3f}" if compared else "",
                f"{row['max_steps']:g}" if compared else "",
                escape(" ".join([row["device"], *(f"{kind}×{count}" for kind, count in row["types"].items())])),
            )
        )
    metric = parity["metric"].replace("top", "top-")
    columns = {"model": "left", "runtime": "left", metric: "right", "95 % CI": "right", "agreement": "right"}
    columns |= {"mean steps": "right", "largest": "right", "ran on": "left"}
    title = f"Parity on the same {parity['samples']:,} samples; agreement and steps against the compressed network"
    first = plain_table(title, columns, rows)
    if not parity["pairs"]:
        return (first,)
    pairs = [
        (
            escape(f"{pair['a']}  –  {pair['b']}"),
            percent(pair["agreement"]),
            f"{pair['metric_difference_points']:+.2f} points",
            f"{pair['mean_steps']:.3f}",
            f"{pair['max_steps']:g}",
        )
        for pair in parity["pairs"]
    ]
    sides = {"runtimes": "left", "agreement": "right", f"{metric} difference": "right", "mean steps": "right"}
    return first, plain_table("Runtime against runtime", {**sides, "largest": "right"}, pairs)


def diff_table(tensors: Sequence[TensorDifference], first: TensorDifference | None) -> Table:
    """Tensors of two bundles beside each other, in execution order; the first that diverges stands out."""
    rows = []
    for one in tensors:
        style = "bold red" if one is first else "default"
        cells = [
            escape(one.operation),
            f"{one.sqnr_db:.1f}",
            f"{one.mean_steps:.4f}",
            f"{one.max_steps:g}",
            f"{one.a.low:.4g} … {one.a.high:.4g}",
            f"{one.b.low:.4g} … {one.b.high:.4g}",
            "same" if one.same_grid else "differs",
        ]
        rows.append([f"[{style}]{cell}[/]" for cell in cells])
    columns = {"operation": "left", "SQNR (dB)": "right", "mean steps": "right", "largest": "right"}
    return plain_table("", {**columns, "range in A": "right", "range in B": "right", "grid": "left"}, rows)


def outline_table(stages: Sequence[StageOutline]) -> Table:
    """Which stages of a build are done, and how long the others took the last time."""
    rows = [
        (
            escape(stage.stage),
            escape(", ".join(stage.targets)),
            "[green]done[/]" if stage.is_done else "to do",
            "" if stage.last_seconds is None else duration(stage.last_seconds),
        )
        for stage in stages
    ]
    return plain_table("", {"stage": "left", "for": "left", "state": "left", "last time": "right"}, rows)


def tensors_table(variant: Variant) -> Table:
    """Inputs and outputs as an app sees them."""
    rows = [
        (kind, escape(printable(tensor.name)), _dimensions(tensor), tensor.dtype, tensor.layout, *_grid(tensor))
        for kind, tensors in (("input", variant.inputs), ("output", variant.outputs))
        for tensor in tensors
    ]
    columns = {"": "left", "name": "left", "shape": "left", "dtype": "left", "layout": "left"}
    return plain_table("", {**columns, "scale": "right", "zero point": "right"}, rows)


def files_table(manifest: Manifest) -> Table:
    """The files of a bundle, the first fifty of many."""
    listed = manifest.files[:_FILES_MAX]
    rows = [(escape(file.path), size(file.size_bytes), f"[dim]{file.sha256[:16]}…[/]") for file in listed]
    if left := manifest.files[_FILES_MAX:]:
        rows.append((f"{len(left):,} more", size(sum(file.size_bytes for file in left)), ""))
    return plain_table("", {"file": "left", "size": "right", "sha256": "left"}, rows)


def golden_table(results: Sequence[GoldenResult], *, title: str = "") -> Table:
    """How the golden outputs compare with what this machine computes."""
    rows = [
        (
            escape(result.output),
            digits(result.largest_steps),
            f"≤ {result.tolerance_steps:g}",
            f"{result.differing:,} of {result.values:,}",
            _YES if result.passed else _NO,
        )
        for result in results
    ]
    columns = {"output": "left", "largest difference": "right", "allowed": "right", "values that differ": "right"}
    return plain_table(escape(title), {**columns, "passed": "left"}, rows)


def _dimensions(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _grid(tensor: Tensor) -> tuple[str, str]:
    if (grid := tensor.quantization) is None:
        return "", ""
    if grid.axis is not None:
        return f"{len(grid.scale)} along axis {grid.axis}", ""
    return f"{grid.scale[0]:.6g}", str(grid.zero_point[0])
