"""`edgepack inspect`: what a bundle says about itself, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import bundle_argument, json_option, variant_option
from edgepack.core.text import printable

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.bundle.manifest import Manifest, Variant

_ROWS_MAX = 50  # of a table: a page is to be read, and --json has everything


@click.command()
@bundle_argument
@variant_option
@click.option("--tree", is_flag=True, help="Show what takes the room: folders and files with their sizes.")
@json_option
def inspect(*, bundle: Path, variant: str | None, tree: bool, as_json: bool) -> None:
    """Show what a bundle says about itself.

    Checks the structure of BUNDLE and its manifest, not the bytes of every file: 'edgepack verify' does that. Of a bundle for several targets
    every model is shown, or that of --variant. --json prints the manifest, with --tree the sizes.

    \b
    Examples:
      edgepack inspect dist/digits-1.0.0-arm64.edgepack
      edgepack inspect --tree model.edgepack
      edgepack inspect --json model.edgepack | jq '.variants[0].inputs'
    """
    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import echo_json

    opened = read_bundle(bundle)
    if tree:
        _show_tree(opened, as_json=as_json)
    elif as_json:
        echo_json(opened.manifest.model_dump(mode="json"))
    else:
        _show(opened, opened.manifest.variants if variant is None else (opened.variant(variant),))


def _show_tree(bundle: Bundle, *, as_json: bool) -> None:
    from edgepack.cli.terminal import echo_json
    from edgepack.cli.tree import tree_lines, tree_of

    root = tree_of(bundle)
    if as_json:
        echo_json(root.as_dict())
    else:
        click.echo("\n".join(tree_lines(root)))


def _show(bundle: Bundle, variants: Sequence[Variant]) -> None:
    from rich.text import Text

    from edgepack.cli.tables import checks_table, facts, files_table, tensors_table
    from edgepack.cli.terminal import draw

    manifest = bundle.manifest
    draw(Text(manifest.title, style="bold"), facts(_about(bundle)))
    for variant in variants:
        draw(*([Text(f"\n{variant.target}", style="bold")] if len(manifest.variants) > 1 else []))
        draw(facts(_about_variant(variant)), tensors_table(variant))
        if variant.checks:
            draw(checks_table(variant.checks[:_ROWS_MAX]))
        draw(facts(_lineage(variant)))
    draw(files_table(manifest), facts(_tools(manifest)))
    click.echo("Structure and manifest are right; 'edgepack verify' checks every byte and runs the model.")


def _about(bundle: Bundle) -> list[tuple[str, str]]:
    from rich.markup import escape

    from edgepack.cli.words import shortened, size

    manifest = bundle.manifest
    labels = "" if manifest.labels is None else f"{len(manifest.labels):,}: {shortened(manifest.labels)}"
    pairs = [
        ("description", manifest.description),
        ("author", manifest.author),
        ("license", manifest.license),
        ("bundle", size(bundle.path.stat().st_size)),
        ("preprocess", " → ".join(_step(step) for step in manifest.preprocess)),
        ("postprocess", " → ".join(_step(step) for step in manifest.postprocess)),
        ("labels", labels),
        ("signatures", "none" if bundle.signatures_bytes is None else "signed; 'edgepack verify' checks by whom"),
    ]
    return [(name, escape(printable(value))) for name, value in pairs]


def _about_variant(variant: Variant) -> list[tuple[str, str]]:
    from rich.markup import escape

    from edgepack.cli.words import percent, size

    model, metric, golden = variant.model, variant.metric, variant.golden
    quality = ""
    if metric is not None:
        original = "" if metric.float_value is None else f" original {percent(metric.float_value)},"
        quality = f"{metric.name} {percent(metric.value)},{original} on {metric.samples:,} samples"
        quality += "".join(f"; {one.name} {percent(one.value)}" for one in metric.also)
    raw = "" if golden is None or golden.raw is None else f", {golden.raw_samples} of them raw, too"
    pairs = [
        ("model", f"{model.path}, {model.format}, {model.precision_spoken}, {size(model.total_bytes)}"),
        ("quality", quality),
        ("checks", "all passed" if variant.checks_passed else "SOME FAILED"),
        ("golden", "" if golden is None else f"{golden.samples} samples{raw}"),
    ]
    return [(name, escape(printable(value))) for name, value in pairs]


def _step(step: Mapping[str, object]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in step.items() if key != "op")
    return f"{step.get('op', '?')} ({options})" if options else str(step.get("op", "?"))


def _lineage(variant: Variant) -> list[tuple[str, str]]:
    from rich.markup import escape

    pairs = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in variant.lineage.items()]
    return [(name, escape(printable(value))) for name, value in pairs]


def _tools(manifest: Manifest) -> list[tuple[str, str]]:
    from rich.markup import escape

    tools = ", ".join(f"{name} {version}" for name, version in manifest.created_with.items())
    return [("made with", escape(printable(tools)))]
