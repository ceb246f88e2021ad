"""`edgepack bench`: how fast a bundle's model is here, how much memory it takes, and how that compares with the float model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FOLDER, bundle_argument, json_option, work_dir_option

if TYPE_CHECKING:
    from edgepack.bench import BenchResult
    from edgepack.bundle.manifest import Manifest

_COUNT = click.IntRange(min=1)


@click.command()
@bundle_argument
@click.option(
    "--against-float", is_flag=True, help="Measure the original float model, too, in turns with the bundle's."
)
@click.option("--repetitions", type=_COUNT, metavar="N", help="Fresh processes per model.  [default: 5]")
@click.option("--threads", type=_COUNT, metavar="N", help="Threads of the runtime.  [default: 1]")
@click.option("--save", type=FOLDER, metavar="DIR", help="Write bench.json with every raw sample into this folder.")
@work_dir_option(".edgepack beside the bundle's folder")
@json_option
def bench(
    *,
    bundle: Path,
    against_float: bool,
    repetitions: int | None,
    threads: int | None,
    save: Path | None,
    work_dir: Path | None,
    as_json: bool,
) -> None:
    """Measure latency and memory on this machine.

    Each model of BUNDLE runs in fresh processes, in turns. p50 is the median of the processes' medians, p90 is over all samples;
    peak memory is of the whole process, Python and runtime included. docs/benchmarking.md says what the numbers can't tell.

    \b
    Examples:
      edgepack bench dist/digits-1.0.0-arm64.edgepack --against-float
      edgepack bench model.edgepack --repetitions 15 --threads 4 --save results
    """
    from edgepack.bench import BenchProtocol
    from edgepack.bundle import read_bundle
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.pipeline import bench as bench_bundle

    given = {"repetitions": repetitions, "threads": threads}
    protocol = BenchProtocol(**{name: value for name, value in given.items() if value is not None})
    with shown_progress(quiet=as_json) as progress:
        result = bench_bundle(
            bundle, against_float=against_float, work_folder=work_dir, protocol=protocol, progress=progress
        )
    saved = None if save is None else result.save(save)
    manifest = read_bundle(bundle).manifest
    if as_json:
        echo_json(_content(result, manifest, bundle))
    else:
        _show(result, manifest, bundle, saved)


def _content(result: BenchResult, manifest: Manifest, bundle: Path) -> dict[str, Any]:
    """Without raw samples, which `--save` keeps."""
    everything = result.as_dict()
    return {
        "bundle": str(bundle),
        "metric": None if manifest.metric is None else manifest.metric.model_dump(mode="json"),
        **{
            name: everything[name]
            for name in ("schema", "device", "protocol", "measurements", "comparisons", "warnings")
        },
    }


def _show(result: BenchResult, manifest: Manifest, bundle: Path, saved: Path | None) -> None:
    from edgepack.cli.tables import bench_conditions, bench_table
    from edgepack.cli.terminal import draw, shown

    draw(bench_table(result, manifest), bench_conditions(result))
    for line in result.warnings:
        click.secho(f"! {line}", fg="yellow")
    if saved is not None:
        click.echo(f"every sample: {shown(saved)}")
    click.echo(shown(bundle))
