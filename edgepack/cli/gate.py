"""`edgepack gate`: is a bundle worse than a baseline? For CI: one answer, one exit code each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.compare import share_of
from edgepack.cli.options import FILE, bundle_argument, complete_suite, inventory_option, json_option, variant_option
from edgepack.core.errors import CheckFailed, Inconclusive

if TYPE_CHECKING:
    from edgepack.gate import GateResult
    from edgepack.records import RunRecord
    from edgepack.store.results import ResultStore

_COUNT = click.IntRange(min=1)


def _tolerances(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(map(share_of, values))


@click.command()
@bundle_argument
@variant_option
@click.option(
    "--baseline", required=True, metavar="REF", help="A bundle's file, a bench of the results store, or bench.json."
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="What to judge; repeat it.  [default: latency_p50_ms]"
)
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    callback=_tolerances,
    metavar="PERCENT",
    help="One for all metrics, or one each in their order.  [default: 3%; sizes and instructions 1%; memory 5%]",
)
@click.option(
    "--max-drop-points",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Judge accuracy, too; needs --accuracy.",
)
@click.option(
    "--accuracy",
    type=click.Path(path_type=Path),
    metavar="RECIPE",
    help="Run the evaluation samples of this recipe on the device.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("local",),
    show_default=True,
    metavar="DEVICE",
    help="Where to measure: as for bench; repeat it for several.",
)
@inventory_option
@click.option(
    "--suite",
    metavar="SUITE",
    shell_complete=complete_suite,
    help="How each process measures: quick, standard, mlperf, or a TOML file.  [default: quick]",
)
@click.option("--pairs", type=_COUNT, metavar="N", help="Pairs of runs before the first look.  [default: 8]")
@click.option("--max-pairs", type=_COUNT, metavar="N", help="Pairs after the one extension.  [default: 1.75 × --pairs]")
@click.option("--threads", type=_COUNT, metavar="N", help="Threads of the runtime.  [default: 1]")
@click.option(
    "--provision", is_flag=True, help="Bring the runtime's packages to the device first; nothing is installed there."
)
@click.option("--no-store", is_flag=True, help="Don't keep the runs in the results store.")
@click.option("--summary", type=FILE, metavar="FILE", help="Append the result as markdown, as to $GITHUB_STEP_SUMMARY.")
@json_option
def gate(
    *,
    bundle: Path,
    variant: str | None,
    baseline: str,
    metrics: tuple[str, ...],
    tolerances: tuple[float, ...],
    max_drop_points: float | None,
    accuracy: Path | None,
    devices: tuple[str, ...],
    inventory: Path | None,
    suite: str | None,
    pairs: int | None,
    max_pairs: int | None,
    threads: int | None,
    provision: bool,
    no_store: bool,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Decide whether a bundle is worse than a baseline.

    With a baseline bundle both run now, in turns, in fresh processes on the same device. FAIL (exit code 8): worse by more than the
    tolerance. PASS (0): not worse by as much. INCONCLUSIVE (12): the noise allows no claim, even after one extension. A stored bench is a
    baseline for what has no noise: guest_instructions, size_bytes, memory, accuracy. docs/statistics.md gives the error rates.

    \b
    Examples:
      edgepack gate new.edgepack --baseline old.edgepack
      edgepack gate new.edgepack --baseline old.edgepack --metric latency_p50_ms --metric size_bytes --tolerance 5% --tolerance 0%
      edgepack gate new.edgepack --baseline latest --metric guest_instructions --tolerance 1%
      edgepack gate new.edgepack --baseline old.edgepack --device pi5 --device pixel --max-drop-points 0.5 --accuracy .
      edgepack gate new.edgepack --baseline old.edgepack --summary "$GITHUB_STEP_SUMMARY"
    """
    from contextlib import ExitStack

    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.gate import Asking, limits_of, markdown
    from edgepack.gate import gate as judge_bundle
    from edgepack.store.results import open_store

    limits = limits_of(metrics, tolerances, max_drop_points=max_drop_points, pairs=pairs, max_pairs=max_pairs)
    with ExitStack() as stack:
        store = None if no_store else stack.enter_context(open_store())
        asking = Asking(
            progress=stack.enter_context(shown_progress(quiet=as_json)),
            inventory=inventory,
            accuracy=accuracy,
            provision=provision,
            target=variant,
            keep=None if store is None else lambda run: _keep(store, run),
        )
        result = judge_bundle(
            bundle, baseline=baseline, limits=limits, devices=devices, asking=asking, suite=suite, threads=threads
        )
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(markdown(result))
    if as_json:
        echo_json(result.as_dict())
    else:
        _show(result, kept=store is not None)
    raise_unless_passed(result)


def _keep(store: ResultStore, run: RunRecord) -> None:
    store.add([run])


def _show(result: GateResult, *, kept: bool) -> None:
    from edgepack.cli.compare import effects_table
    from edgepack.cli.terminal import draw

    draw(effects_table(result.effects, a="baseline", b="bundle"))
    for line in result.hints:
        click.secho(f"! {line}", fg="yellow")
    if kept and result.benches:
        click.echo(f"kept as {', '.join(name[:12] for name in result.benches)}")
    click.echo(f"gate: {result.verdict}: {result.bundle} against {result.baseline}")


def raise_unless_passed(result: GateResult) -> None:
    """The exit code as an exception: CheckFailed for FAIL, Inconclusive for INCONCLUSIVE."""
    from edgepack.compare import shown_device
    from edgepack.stats import Verdict

    if result.verdict is Verdict.PASS:
        return
    which = [f"{one.metric} on {shown_device(one.device)}" for one in result.effects if one.verdict is result.verdict]
    listed = ", ".join(which)
    if result.verdict is Verdict.FAIL:
        raise CheckFailed(
            f"{result.bundle}: worse than {result.baseline} by more than its tolerance: {listed}; make it leaner, or allow more with --tolerance"
        )
    raise Inconclusive(
        f"{result.bundle}: not decided against {result.baseline}: {listed}; the lines above say what would decide"
    )
