"""The bill of materials of a bundle, CycloneDX 1.6: the models with their model cards, the data behind them and the tools.

Field names: CycloneDX 1.6 JSON reference, https://cyclonedx.org/docs/1.6/json/. There is no time in it and the serial number follows
from the content, so that equal builds have equal bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from edgepack.bundle.manifest import Manifest, Metric, Tensor, Variant

# SPDX identifiers that models often carry; the schema takes another text as a name only.
_SPDX = {
    "0BSD", "AFL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-4.0",
    "CC0-1.0", "EPL-2.0", "EUPL-1.2", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "ISC",
    "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MPL-2.0", "ODbL-1.0",
    "Unlicense", "Zlib",
}  # fmt: skip
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgepack:bom")
_TASKS = dict.fromkeys(("top1", "top5", "precision", "recall", "f1"), "classification")


def bill_of_materials(manifest: Manifest) -> bytes:
    """The bill of materials as JSON; the manifest's list of files does not count."""
    components = [*(_model(manifest, variant) for variant in manifest.variants), *_data_components(manifest)]
    content: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [_tool(name, version) for name, version in sorted(manifest.created_with.items())]},
            "component": _bundle(manifest),
        },
        "components": components,
        "dependencies": [
            {"ref": "bundle", "dependsOn": [_ref(variant) for variant in manifest.variants]},
            *(
                {"ref": _ref(variant), "dependsOn": sorted(_data_refs(variant).values())}
                for variant in manifest.variants
            ),
        ],
    }
    digest = json.dumps(content, sort_keys=True)
    content["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}"
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _bundle(manifest: Manifest) -> dict[str, Any]:
    about = {"type": "application", "bom-ref": "bundle", "name": manifest.name, "version": manifest.version}
    return {**about, **_common(manifest)}


def _common(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = {"description": manifest.description} if manifest.description else {}
    if manifest.author:
        content["authors"] = [{"name": manifest.author}]
    if manifest.license:
        kind = "id" if manifest.license in _SPDX else "name"
        content["licenses"] = [{"license": {kind: manifest.license}}]
    return content


def _tool(name: str, version: str) -> dict[str, Any]:
    return {"type": "application" if name == "edgepack" else "library", "name": name, "version": version}


def _ref(variant: Variant) -> str:
    return f"model:{variant.target}"


def _model(manifest: Manifest, variant: Variant) -> dict[str, Any]:
    model = variant.model
    properties = {
        "edgepack:target": variant.target,
        "edgepack:format": model.format,
        "edgepack:precision": model.precision,
        "edgepack:runtime": model.runtime,
        "edgepack:size_bytes": str(model.total_bytes),
        "edgepack:checks_passed": str(variant.checks_passed).lower(),
        **{
            f"edgepack:{name}": str(variant.lineage[name])
            for name in ("recipe_sha256", "weights_sha256")
            if name in variant.lineage
        },
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(variant),
        "name": f"{manifest.name} for {variant.target}",
        "version": manifest.version,
        **_common(manifest),
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "modelCard": _model_card(variant),
        "properties": [{"name": name, "value": value} for name, value in properties.items() if value],
        "components": [
            {
                "type": "file",
                "bom-ref": f"{_ref(variant)}:{file.path}",
                "name": file.path,
                "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            }
            for file in model.files
        ],
    }


def _model_card(variant: Variant) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "inputs": [{"format": _tensor(tensor)} for tensor in variant.inputs],
        "outputs": [{"format": _tensor(tensor)} for tensor in variant.outputs],
    }
    if variant.metric is not None and variant.metric.name in _TASKS:
        parameters["task"] = _TASKS[variant.metric.name]
    if refs := _data_refs(variant):
        parameters["datasets"] = [{"ref": ref} for ref in sorted(refs.values())]
    metrics = [] if variant.metric is None else _metrics(variant.metric)
    metrics += [
        {"type": f"{check.kind}: {check.name}", "value": f"{check.value:.9g}", **_interval(check.ci95)}
        for check in variant.checks
    ]
    return {
        "bom-ref": f"card:{variant.target}",
        "modelParameters": parameters,
        **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
    }


def _metrics(metric: Metric) -> list[dict[str, Any]]:
    on = f"{metric.samples} evaluation samples"
    found: list[dict[str, Any]] = [
        {"type": metric.name, "value": f"{metric.value:.9g}", "slice": on, **_interval(metric.ci95)}
    ]
    found += [{"type": one.name, "value": f"{one.value:.9g}", "slice": on} for one in metric.also]
    found += [
        {"type": f"{one.name} of the original float model", "value": f"{one.float_value:.9g}", "slice": on}
        for one in metric.all
        if one.float_value is not None
    ]
    return found


def _interval(ci95: tuple[float, float] | None) -> dict[str, Any]:
    if ci95 is None:
        return {}
    return {"confidenceInterval": {"lowerBound": f"{ci95[0]:.9g}", "upperBound": f"{ci95[1]:.9g}"}}


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {' x '.join(map(str, tensor.shape))} {tensor.layout}"


def _data_of(variant: Variant) -> Mapping[str, Mapping[str, Any]]:
    data = variant.lineage.get("data")
    return {role: one for role, one in data.items() if isinstance(one, dict)} if isinstance(data, dict) else {}


def _data_refs(variant: Variant) -> dict[str, str]:
    """Names of the data components by role: equal data of several variants are one component."""
    return {
        role: f"data:{role}:{str(one.get('sha256') or uuid.uuid5(_NAMESPACE, json.dumps(one, sort_keys=True)))[:12]}"
        for role, one in _data_of(variant).items()
    }


def _data_components(manifest: Manifest) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for variant in manifest.variants:
        refs = _data_refs(variant)
        for role, one in _data_of(variant).items():
            component: dict[str, Any] = {
                "type": "data",
                "bom-ref": refs[role],
                "name": f"{role} data",
                "data": [{"type": "dataset", "name": f"{role} data", "contents": _contents(one)}],
            }
            if isinstance(one.get("sha256"), str) and len(one["sha256"]) == 64:
                component["hashes"] = [{"alg": "SHA-256", "content": one["sha256"]}]
            found[refs[role]] = component
    return [found[ref] for ref in sorted(found)]


def _contents(data: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: data[name] for name in ("provider", "count", "seed") if data.get(name) is not None}
    return {"properties": [{"name": f"edgepack:{name}", "value": str(value)} for name, value in said.items()]}
