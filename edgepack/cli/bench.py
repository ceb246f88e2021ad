"""`edgepack bench`: how fast a bundle's model is on a device, how much memory it takes, and how that compares with other models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import (
    FILE,
    FOLDER,
    bundle_argument,
    complete_suite,
    device_option,
    inventory_option,
    json_option,
    require_signed_option,
    trust_option,
    variant_option,
    work_dir_option,
)

if TYPE_CHECKING:
    from edgepack.bench import BenchResult
    from edgepack.bundle import Bundle
    from edgepack.bundle.manifest import Variant
    from edgepack.records import RunRecord
    from edgepack.store.results import ResultStore

_COUNT = click.IntRange(min=1)


@click.command()
@bundle_argument
@variant_option
@device_option
@inventory_option
@click.option(
    "--suite",
    default="quick",
    show_default=True,
    metavar="SUITE",
    shell_complete=complete_suite,
    help="How to measure: quick, standard, mlperf, or a TOML file.",
)
@click.option(
    "--against-float", is_flag=True, help="Measure the original float model, too, in turns with the bundle's."
)
@click.option(
    "--against",
    type=FILE,
    multiple=True,
    metavar="BUNDLE",
    help="Measure another bundle, too, in turns; the first one is the baseline.",
)
@click.option(
    "--accuracy",
    type=click.Path(path_type=Path),
    metavar="RECIPE",
    help="Run the evaluation samples of this recipe on the device, too.",
)
@click.option("--repetitions", type=_COUNT, metavar="N", help="Fresh processes per model.  [default: the suite's]")
@click.option("--threads", type=_COUNT, metavar="N", help="Threads of the runtime.  [default: 1]")
@click.option("--cores", metavar="LIST", help="Bind the processes to these cores, such as 4-7 or 0,2.")
@click.option(
    "--cool-below", type=float, metavar="CELSIUS", help="Wait before each process until the device is cooler than that."
)
@click.option("--profile", is_flag=True, help="Time single operators, too, in a process of their own.")
@click.option(
    "--delegate", metavar="PATH|none", help="A LiteRT delegate's library on the device, or LiteRT's own kernels."
)
@click.option(
    "--provision", is_flag=True, help="Bring the runtime's packages to the device first; nothing is installed there."
)
@click.option("--no-store", is_flag=True, help="Don't keep the runs in the results store.")
@click.option(
    "--attach",
    type=FILE,
    metavar="FILE",
    help="Write the bundle with this result as reports/benchmark.json; FILE may be BUNDLE itself.",
)
@click.option("--save", type=FOLDER, metavar="DIR", help="Write bench.json with every raw sample into this folder.")
@work_dir_option(".edgepack beside the bundle's folder")
@require_signed_option
@trust_option
@json_option
def bench(
    *,
    bundle: Path,
    variant: str | None,
    device: str,
    inventory: Path | None,
    suite: str,
    against_float: bool,
    against: tuple[Path, ...],
    accuracy: Path | None,
    repetitions: int | None,
    threads: int | None,
    cores: str | None,
    cool_below: float | None,
    profile: bool,
    provision: bool,
    delegate: str | None,
    no_store: bool,
    attach: Path | None,
    save: Path | None,
    work_dir: Path | None,
    require_signed: bool,
    trust_file: Path | None,
    as_json: bool,
) -> None:
    """Measure latency, memory and accuracy on a device.

    Each model of BUNDLE runs in fresh processes, in turns. p50 is the median of the processes' medians, p90 is over all samples;
    peak memory is of the whole process, Python and runtime included. Every run is kept in the results store (edgepack results).
    docs/benchmarking.md says what the numbers can't tell.

    \b
    Examples:
      edgepack bench dist/digits-1.0.0-arm64.edgepack --against-float
      edgepack bench model.edgepack --device ssh://pi@board --suite standard --provision
      edgepack bench new.edgepack --against old.edgepack --device pi5 --accuracy .
      edgepack bench model.edgepack --device pi5 --attach measured.edgepack
      edgepack bench model.edgepack --repetitions 15 --threads 4 --save results
    """
    from contextlib import ExitStack

    from edgepack.bundle import read_bundle
    from edgepack.bundle.attach import refuse_signed
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.opened import bench as bench_bundle
    from edgepack.signing import load_trust
    from edgepack.store.results import open_store
    from edgepack.suites import load_suite

    if attach is not None:
        refuse_signed(read_bundle(bundle))
    protocol = load_suite(suite, repetitions=repetitions, threads=threads, cores=_cores(cores), cool_below_c=cool_below)
    with ExitStack() as stack:
        store = None if no_store else stack.enter_context(open_store())
        progress = stack.enter_context(shown_progress(quiet=as_json))
        result = bench_bundle(
            bundle,
            target=variant,
            against_float=against_float,
            against=against,
            device=device,
            inventory=inventory,
            accuracy=accuracy,
            profile=profile,
            provision=provision,
            delegate=delegate,
            work_folder=work_dir,
            protocol=protocol,
            keep=None if store is None else _keeper(store),
            trust=load_trust(trust_file, require_signed=require_signed),
            progress=progress,
        )
    saved = None if save is None else result.save(save)
    opened = read_bundle(bundle)
    chosen = opened.variant(variant)
    if attach is not None:
        _attach(opened, chosen, result, attach)
    if as_json:
        echo_json({"bundle": str(bundle), **_content(result, chosen)})
    else:
        _show(result, opened, chosen, saved, kept=store is not None)


def _attach(bundle: Bundle, variant: Variant, result: BenchResult, path: Path) -> None:
    """The result without its raw samples, as a report of the bundle."""
    import json

    from edgepack.bundle.attach import attach
    from edgepack.bundle.places import place_of_report

    data = json.dumps(_content(result, variant), indent=2, sort_keys=True) + "\n"
    attach(bundle, {place_of_report(bundle, variant, "benchmark.json"): data.encode()}, path)


def _keeper(store: ResultStore) -> Callable[[RunRecord], None]:
    def keep(run: RunRecord) -> None:
        store.add([run])

    return keep


def _cores(text: str | None) -> tuple[int, ...] | None:
    """4-7,1 → (1, 4, 5, 6, 7). Raises UsageError."""
    from edgepack.core.errors import UsageError

    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)) or (dash and int(last) < int(first)):
            raise UsageError(f"--cores {text}: '{part}' is no core or range of cores; write 4-7 or 0,2")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _content(result: BenchResult, variant: Variant) -> dict[str, Any]:
    """Without raw samples, which the store and `--save` keep."""
    everything = result.as_dict()
    for measurement in everything["measurements"]:
        if measurement["accuracy"] is not None:
            measurement["accuracy"]["samples"] = len(measurement["accuracy"].pop("correct"))
    names = ("schema", "bench", "device", "protocol", "measurements", "comparisons", "warnings")
    return {
        "metric": None if variant.metric is None else variant.metric.model_dump(mode="json"),
        **{name: everything[name] for name in names},
    }


def _show(result: BenchResult, bundle: Bundle, variant: Variant, saved: Path | None, *, kept: bool) -> None:
    from edgepack.cli.bench_tables import accuracy_table, bench_conditions, bench_table, profile_table
    from edgepack.cli.terminal import draw, shown

    draw(
        bench_table(result, variant, title=f"{bundle.manifest.name} {bundle.manifest.version} for {variant.target}"),
        bench_conditions(result),
    )
    if (accuracy := accuracy_table(result)) is not None:
        draw(accuracy)
    for label in (one.label for one in result.measurements):
        if layers := result.profile(label):
            draw(profile_table(label, layers))
    for line in result.warnings:
        click.secho(f"! {line}", fg="yellow")
    if saved is not None:
        click.echo(f"every sample: {shown(saved)}")
    if kept:
        click.echo(f"kept as {result.bench[:12]}; edgepack report {result.bench[:12]}")
    click.echo(shown(bundle.path))
