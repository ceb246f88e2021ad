"""The pages a person reads inside a bundle: the model card, and the verification's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgepack.bundle.manifest import Manifest, Tensor, Variant
from edgepack.core.types import Check


def model_card(manifest: Manifest) -> str:
    """What the model is, how to feed it, how good it is: Markdown from the manifest alone."""
    lines = [f"# {manifest.title}", ""]
    lines += [manifest.description, ""] if manifest.description else []
    if not manifest.checks_passed:
        lines += ["**Not all checks passed: see the tables below. Do not ship this without a reason.**", ""]
    lines += [f"- author: {manifest.author}"] if manifest.author else []
    lines += [f"- licence: {manifest.license}"] if manifest.license else []
    lines += [""] if manifest.author or manifest.license else []
    for variant in manifest.variants:
        lines += _variant_lines(variant, heading=f"## {variant.target}" if len(manifest.variants) > 1 else "")
    for title, steps, file in (
        ("Preprocessing", manifest.preprocess, "preprocess.py"),
        ("Postprocessing", manifest.postprocess, "postprocess.py"),
    ):
        if steps:
            lines += [f"## {title}", "", f"In this order; `{file}` is the reference implementation:", ""]
            lines += [f"{number}. `{step}`" for number, step in enumerate(steps, start=1)]
            lines.append("")
    return "\n".join(lines)


def _variant_lines(variant: Variant, *, heading: str) -> list[str]:
    lines = [heading, ""] if heading else []
    lines += [f"- model: `{variant.model.path}`, {variant.model.precision_spoken}, {variant.model.total_bytes:,} bytes"]
    if (metric := variant.metric) is not None:
        for one in metric.all:
            original = f"; the original float model has {one.float_value:.2%}" if one.float_value is not None else ""
            lines.append(f"- {one.name}: {one.value:.2%} on {metric.samples} samples{original}")
    lines += _origin_lines(variant)
    lines += ["", "| | name | shape | dtype | layout | scale | zero point |", "|---|---|---|---|---|---|---|"]
    lines += [_row("input", tensor) for tensor in variant.inputs]
    lines += [_row("output", tensor) for tensor in variant.outputs]
    lines += ["", "real value = scale × (code − zero point)", ""]
    if (golden := variant.golden) is not None:
        lines += [
            f"To prove your integration, run the {golden.samples} samples in {_listed(golden.inputs)} through the model: each output lies within "
            f"{golden.tolerance_steps:g} steps of {_listed(golden.outputs)}.",
            "",
        ]
    if variant.checks:
        lines += ["| check | value | limit | passed |", "|---|---|---|---|"]
        lines += [
            f"| {check.kind}: {check.name} | {check.value:.6g} | {'≤' if check.direction == 'max' else '≥'} {check.limit:.6g} | "
            f"{'yes' if check.passed else '**no**'} |"
            for check in variant.checks
        ]
        lines.append("")
    return lines


def _origin_lines(variant: Variant) -> list[str]:
    """How the model was made, as far as its lineage says."""
    lines = []
    steps = variant.lineage.get("compression")
    methods = [str(step.get("method")) for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    lines += [f"- compression: {', '.join(methods)}"] if methods else []
    data = variant.lineage.get("data")
    for role, one in data.items() if isinstance(data, dict) else ():
        if isinstance(one, dict):
            digest = f", sha256 `{one['sha256']}`" if isinstance(one.get("sha256"), str) else ""
            count = f"{one['count']} samples" if isinstance(one.get("count"), int) else "all samples"
            lines.append(f"- {role} data: {one.get('provider', 'unknown')}, {count}{digest}")
    return lines


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def verification_page(
    title: str,
    checks: Iterable[Check],
    layers: Iterable[Mapping[str, Any]],
    notes: Iterable[str],
    parity: Mapping[str, Any],
) -> str:
    """Every check, how the runtimes compare (`parity` is reports/parity.json), and every tensor beside the network's operation, as Markdown."""
    lines = [
        f"# Verification of {title}",
        "",
        "| check | value | limit | samples | 95 % interval | passed |",
        "|---|---|---|---|---|---|",
    ]
    for check in checks:
        sign = "≤" if check.direction == "max" else "≥"
        interval = (
            f"{check.ci95[0]:.4g} … {check.ci95[1]:.4g}" if check.ci95 else "exact" if check.samples is None else ""
        )
        lines.append(
            f"| {check.kind}: {check.name} | {check.value:.6g} | {sign} {check.limit:.6g} | {check.samples or ''} | {interval} | "
            f"{'yes' if check.passed else '**no**'} |"
        )
    lines += _parity_lines(parity)
    rows = [
        f"| {layer['operation']} | {layer['tensor']} | {layer['sqnr_db']:.1f} | {layer['mean_steps']:.3f} |"
        for layer in layers
    ]
    if rows:
        lines += [
            "",
            "## Layer by layer",
            "",
            "The artifact's tensors against the compressed network's, in execution order.",
            "",
        ]
        lines += ["| operation | tensor | SQNR (dB) | mean difference (steps) |", "|---|---|---|---|", *rows]
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes)] if (notes := list(notes)) else []
    return "\n".join(lines) + "\n"


def _parity_lines(parity: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## Parity",
        "",
        f"Every model of the build on the same {parity['samples']} samples; agreement and differences are with the compressed network.",
        "",
        f"| model | runtime | {parity['metric']} | 95 % interval | agreement | mean steps | largest | ran on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in parity["rows"]:
        low, high = row["metric_ci95"]
        compared = (
            f"{row['agreement']:.2%} | {row['mean_steps']:.3f} | {row['max_steps']:g}"
            if row["agreement"] is not None
            else " | | "
        )
        ran = " ".join([row["device"], *(f"{kind}×{count}" for kind, count in row["types"].items())])
        lines.append(
            f"| {row['name']} | {row['runtime']} {row['version']} | {row['metric']:.2%} | {low:.2%} … {high:.2%} | {compared} | {ran} |"
        )
    if names := [name for row in parity["rows"][:1] for name in row.get("also", {})]:
        lines += ["", f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for row in parity["rows"]:
            values = " | ".join(f"{row['also'][name]:.2%}" for name in names)
            lines.append(f"| {row['name']} | {values} |")
    if parity["pairs"]:
        lines += [
            "",
            "| runtimes | agreement | metric difference (points) | mean steps | largest |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {pair['a']} and {pair['b']} | {pair['agreement']:.2%} | {pair['metric_difference_points']:+.2f} | "
            f"{pair['mean_steps']:.3f} | {pair['max_steps']:g} |"
            for pair in parity["pairs"]
        ]
    remarks = [f"- not run: {name}: {reason}" for name, reason in parity["not_run"].items()]
    remarks += [f"- {row['name']}: {note}" for row in parity["rows"] for note in row["notes"]]
    lines += ["", *remarks] if remarks else []
    return lines


def _row(kind: str, tensor: Tensor) -> str:
    grid = tensor.quantization
    scale, zero = (
        ("", "") if grid is None else (", ".join(f"{s:.9g}" for s in grid.scale), ", ".join(map(str, grid.zero_point)))
    )
    return f"| {kind} | `{tensor.name}` | {list(tensor.shape)} | {tensor.dtype} | {tensor.layout} | {scale} | {zero} |"
