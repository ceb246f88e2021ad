"""`edgepack inspect`: what a bundle says about itself, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import bundle_argument, json_option

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.bundle.manifest import Manifest


@click.command()
@bundle_argument
@json_option
def inspect(*, bundle: Path, as_json: bool) -> None:
    """Show what a bundle says about itself.

    Checks the structure of BUNDLE and its manifest, not the bytes of every file: 'edgepack verify' does that. --json prints the manifest.

    \b
    Examples:
      edgepack inspect dist/digits-1.0.0-arm64.edgepack
      edgepack inspect --json model.edgepack | jq .inputs
    """
    from edgepack.bundle import read_bundle
    from edgepack.cli.terminal import echo_json

    opened = read_bundle(bundle)
    if as_json:
        echo_json(opened.manifest.model_dump(mode="json"))
    else:
        _show(opened)


def _show(bundle: Bundle) -> None:
    from rich.text import Text

    from edgepack.cli.tables import checks_table, facts, files_table, tensors_table
    from edgepack.cli.terminal import draw

    manifest = bundle.manifest
    headline = Text(f"{manifest.name} {manifest.version} for {manifest.target}", style="bold")
    draw(headline, facts(_about(bundle)), tensors_table(manifest))
    if manifest.checks:
        draw(checks_table(manifest.checks))
    draw(files_table(manifest), facts(_lineage(manifest)))
    click.echo("Structure and manifest are right; 'edgepack verify' checks every byte and runs the model.")


def _about(bundle: Bundle) -> list[tuple[str, str]]:
    from rich.markup import escape

    from edgepack.cli.words import percent, shortened, size

    manifest = bundle.manifest
    model, metric = manifest.model, manifest.metric
    quality = ""
    if metric is not None:
        original = "" if metric.float_value is None else f" original {percent(metric.float_value)},"
        quality = f"{metric.name} {percent(metric.value)},{original} on {metric.samples:,} samples"
    labels = "" if manifest.labels is None else f"{len(manifest.labels):,}: {shortened(manifest.labels)}"
    pairs = [
        ("description", manifest.description),
        ("author", manifest.author),
        ("license", manifest.license),
        ("bundle", size(bundle.path.stat().st_size)),
        ("model", f"{model.path}, {model.format}, {model.precision}, {size(model.total_bytes)}"),
        ("quality", quality),
        ("checks", "all passed" if manifest.checks_passed else "SOME FAILED"),
        ("preprocess", " → ".join(_step(step) for step in manifest.preprocess)),
        ("labels", labels),
        ("golden", "" if manifest.golden is None else f"{manifest.golden.samples} samples"),
    ]
    return [(name, escape(value)) for name, value in pairs]


def _step(step: Mapping[str, object]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in step.items() if key != "op")
    return f"{step['op']} ({options})" if options else str(step["op"])


def _lineage(manifest: Manifest) -> list[tuple[str, str]]:
    from rich.markup import escape

    pairs = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in manifest.lineage.items()]
    tools = ", ".join(f"{name} {version}" for name, version in manifest.created_with.items())
    return [(name, escape(value)) for name, value in [*pairs, ("made with", tools)]]
