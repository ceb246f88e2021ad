"""`edgepack compare`: two results side by side, with intervals, where they may be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgepack.cli.options import json_option

if TYPE_CHECKING:
    from rich.table import Table

    from edgepack.compare import Comparison, Effect


def share_of(text: str) -> float:
    """'3%' or '0.03' as a share. Raises click.BadParameter."""
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError as exc:
        raise click.BadParameter(f"'{text}' is no tolerance; write '3%' or '0.03'") from exc
    if not 0 <= share < 1:
        raise click.BadParameter(f"'{text}' lies outside 0% … 100%; write '3%' or '0.03'")
    return share


def _tolerance(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    return None if value is None else share_of(value)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; repeat it for several.")
@click.option(
    "--tolerance", callback=_tolerance, metavar="PERCENT", help="Of every metric.  [default: 3%; sizes 1%; memory 5%]"
)
@click.option(
    "--max-drop-points",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Largest drop of accuracy.",
)
@json_option
def compare(
    *, a: str, b: str, metrics: tuple[str, ...], tolerance: float | None, max_drop_points: float, as_json: bool
) -> None:
    """Compare two results: B against A.

    A and B are benches of the results store (an id, its first characters, 'latest', 'latest~1') or files that 'edgepack bench --save'
    wrote. LABEL@ names one model of them, such as float@latest; without it, it is the bundle. A ratio of 1.05 means that B takes
    5 % more. Models of one bench were measured in turns; two benches were not, so what changed in between is in their ratio.
    Results that differ in device, runtime, threads, protocol or data are refused. It exits with 0 whatever it finds: 'edgepack gate' decides.

    \b
    Examples:
      edgepack compare latest~1 latest
      edgepack compare float@latest bundle@latest --metric latency_p50_ms
      edgepack compare old/bench.json new/bench.json --json | jq '.effects[].verdict'
    """
    from edgepack.cli.terminal import echo_json
    from edgepack.compare import compare_sides, read_side
    from edgepack.records import METRICS

    tolerances = {} if tolerance is None else dict.fromkeys(METRICS, tolerance)
    found = compare_sides(
        read_side(a), read_side(b), metrics=metrics or None, tolerances=tolerances, max_drop_points=max_drop_points
    )
    if as_json:
        echo_json(found.as_dict())
        return
    _show(found)


def _show(found: Comparison) -> None:
    from edgepack.cli.terminal import draw

    draw(effects_table(found.effects, a=found.a, b=found.b))
    for line in found.notes:
        click.secho(f"! {line}", fg="yellow")


def effects_table(effects: tuple[Effect, ...], *, a: str, b: str) -> Table:
    """One row a device and metric; the device's column is left out when there is only one."""
    from rich.markup import escape

    from edgepack.cli.tables import plain_table
    from edgepack.compare import shown_device

    several = len({one.device for one in effects}) > 1
    rows = []
    for one in effects:
        style = {"FAIL": "bold red", "PASS": "green"}.get(one.verdict, "yellow")
        device = (escape(shown_device(one.device)),) if several else ()
        rows.append((*device, one.metric, *effect_cells(one), f"[{style}]{one.verdict}[/]"))
    columns = {**({"device": "left"} if several else {}), "metric": "left", escape(a): "right", escape(b): "right"}
    columns |= {"ratio": "right", "interval": "right", "limit": "right", "from": "left", "verdict": "left"}
    return plain_table("", columns, rows)


def effect_cells(one: Effect) -> tuple[str, ...]:
    """Both values, effect, interval, limit and from what it was found, as plain text."""
    if one.metric == "accuracy":
        bounds = "" if one.interval is None else f"{one.interval[0]:.2f} … {one.interval[1]:.2f}"
        cells = (f"{100 * one.a:.2f} %", f"{100 * one.b:.2f} %", f"{0.0 - one.value:+.2f} points")
        return (*cells, bounds and f"drop {bounds}", f"drop {one.limit:g}", f"{one.count:,} samples")
    bounds = "" if one.interval is None else f"{one.interval[0]:.3f} … {one.interval[1]:.3f}"
    source = {"paired": f"{one.count} pairs", "unpaired": f"{one.count} runs a side, not interleaved"}
    values = (_value(one.metric, one.a), _value(one.metric, one.b))
    return (*values, f"{one.value:.3f}", bounds, f"{one.limit:.3f}", source.get(one.method, "value"))


def _value(metric: str, value: float) -> str:
    from edgepack.cli.words import quantity

    return f"{value:,.0f}" if metric == "guest_instructions" else quantity(metric, value)
