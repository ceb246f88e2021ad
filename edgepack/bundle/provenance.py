"""Where a variant's model comes from, as an in-toto statement that supply-chain tools read.

Statement: in-toto attestation framework v1 (statement.md); predicate: SLSA provenance v1, https://slsa.dev/spec/v1.0/provenance. No time, host or
path: equal builds have equal bytes.
"""

from __future__ import annotations

import json
from typing import Any

from edgepack.bundle.manifest import Manifest, Variant

BUILD_TYPE = "urn:edgepack:build:v1"


def provenance(manifest: Manifest, variant: Variant) -> bytes:
    """The statement about a variant's model files as JSON; the manifest's list of files does not count."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": file.path, "digest": {"sha256": file.sha256}} for file in variant.model.files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": _definition(variant), "runDetails": _run(manifest)},
    }
    return (json.dumps(statement, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _definition(variant: Variant) -> dict[str, Any]:
    lineage = variant.lineage
    known = ("recipe_sha256", "weights_sha256", "data", "stages", "float_model")
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "target": variant.target,
            **{name: value for name, value in lineage.items() if name not in known},
        },
        "internalParameters": {name: lineage[name] for name in ("stages", "float_model") if lineage.get(name)},
        "resolvedDependencies": _dependencies(variant),
    }


def _dependencies(variant: Variant) -> list[dict[str, Any]]:
    found = []
    for name, key in (("recipe", "recipe_sha256"), ("weights", "weights_sha256")):
        if isinstance(variant.lineage.get(key), str):
            found.append({"name": name, "digest": {"sha256": variant.lineage[key]}})
    data = variant.lineage.get("data")
    for role, one in sorted(data.items()) if isinstance(data, dict) else ():
        if isinstance(one, dict) and isinstance(one.get("sha256"), str):
            annotations = {name: value for name, value in one.items() if name != "sha256" and value is not None}
            found.append({"name": f"data: {role}", "digest": {"sha256": one["sha256"]}, "annotations": annotations})
    return found


def _run(manifest: Manifest) -> dict[str, Any]:
    tools = dict(manifest.created_with)
    version = tools.pop("edgepack", "unknown")
    return {"builder": {"id": f"pkg:pypi/edgepack@{version}", "version": {"edgepack": version, **tools}}}
