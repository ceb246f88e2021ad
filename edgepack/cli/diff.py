"""`edgepack diff`: where two bundles of one model part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import json_option, recipe_option

if TYPE_CHECKING:
    from rich.table import Table

    from edgepack.diff import Difference, TensorDifference

_NAME_CHARACTERS = 60


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@recipe_option
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="TARGET",
    help="Which model of a bundle with several: once for both, or once for A and once for B.",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use N of the golden samples.  [default: all]")
@click.option("--all", "everything", is_flag=True, help="Show every tensor, not only those around the divergence.")
@json_option
def diff(
    *, a: str, b: str, recipe: Path, variants: tuple[str, ...], samples: int | None, everything: bool, as_json: bool
) -> None:
    """Find the first tensor in which two bundles of one model diverge.

    A and B are bundles, or names of targets for which the recipe here was built. Both run the golden inputs of A in their own
    runtimes; each tensor of one is put beside the tensor of the same operation in the other. Two right int8 kernels round some values
    one code apart, which grows slowly from layer to layer; a tensor diverges where the difference jumps, falls below 20 dB, or has
    another grid.

    \b
    Examples:
      edgepack diff arm64 intel
      edgepack diff dist/digits-1.0.0-arm64.edgepack dist/digits-1.0.0-gpu.edgepack --all
      edgepack diff digits-1.0.0.edgepack digits-1.0.0.edgepack --variant arm64 --variant intel
      edgepack diff arm64 x86_64 --json | jq '.tensors[0]'
    """
    from edgepack.cli.progress import shown_progress
    from edgepack.cli.terminal import echo_json
    from edgepack.diff import diff as compare

    with shown_progress(quiet=as_json) as progress:
        found = compare(
            _bundle(a, recipe), _bundle(b, recipe), targets=_targets(variants), samples=samples, progress=progress
        )
    if as_json:
        echo_json(found.as_dict())
        return
    _show(found, everything=everything)


def _targets(variants: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Which variant of A and of B. Raises UsageError."""
    from edgepack.core.errors import UsageError

    if len(variants) > 2:
        raise UsageError(f"--variant: given {len(variants)} times; give it once for both, or once for A and once for B")
    return (variants[0], variants[-1]) if variants else (None, None)


def _bundle(text: str, recipe: Path) -> Path:
    """A bundle's file, or that of the recipe's build for a target."""
    from edgepack.core.errors import UsageError
    from edgepack.plan import make_plan
    from edgepack.targets import target_names

    path = Path(text)
    if (
        path.suffix == ".edgepack"
        or path.is_file()
        or text not in target_names(recipe if recipe.is_dir() else recipe.parent)
    ):
        return path
    built = make_plan(recipe, target=text).bundle_path
    if not built.is_file():
        raise UsageError(f"{built}: not there; build it first: edgepack build --target {text} --allow-failed-checks")
    return built


def _show(found: Difference, *, everything: bool) -> None:
    from rich.markup import escape

    from edgepack.cli.tables import diff_table, facts
    from edgepack.cli.terminal import draw

    first, tensors = found.first, found.tensors
    shown = tensors
    if not everything:
        center = (
            tensors.index(first) if first is not None else tensors.index(max(tensors, key=lambda one: one.mean_steps))
        )
        shown = tensors[max(0, center - 3) : center + 4]
    draw(
        facts(
            [
                ("A", escape(found.a)),
                ("B", escape(found.b)),
                ("samples", str(found.samples)),
                ("tensors", str(len(tensors))),
            ]
        ),
        diff_table(shown, first),
    )
    if first is None:
        rounding = found.first_rounding
        where = f"; they first round apart at {rounding.operation}" if rounding is not None else ": they are equal"
        click.echo(f"No tensor differs by more than rounding explains{where}.")
        if rounding is not None:
            draw(_explanation("first apart", rounding))
    else:
        draw(_explanation("first to diverge", first))
    for side, names in (("A", found.only_in_a), ("B", found.only_in_b)):
        if names:
            click.secho(
                f"only a tensor of its own in {side}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}", dim=True
            )


def _explanation(what: str, first: TensorDifference) -> Table:
    from rich.markup import escape

    from edgepack.cli.tables import facts

    rows = [(what, f"[bold]{escape(first.operation)}[/]")]
    if not first.same_grid:
        rows.append(("grids differ", f"scale {first.a.scale:.6g} and {first.b.scale:.6g}"))
    for name, side in (("A", first.a), ("B", first.b)):
        rows.append(
            (
                name,
                f"{escape(_shortened(side.tensor))}: scale {side.scale:.6g}, zero point {side.zero_point}, values {side.low:.5g} … {side.high:.5g}, "
                f"at {list(first.worst_index)} {side.worst:.6g}",
            )
        )
    return facts(rows)


def _shortened(name: str) -> str:
    """The end of a long tensor name, which says most: converters string the whole path of modules together."""
    return name if len(name) <= _NAME_CHARACTERS else "…" + name[-_NAME_CHARACTERS:]
