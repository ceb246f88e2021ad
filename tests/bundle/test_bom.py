"""The bill of materials and the provenance, judged by the standards' own schemas and readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_bundle import content, variant

from edgepack.bundle.bom import bill_of_materials
from edgepack.bundle.card import model_card
from edgepack.bundle.manifest import Manifest
from edgepack.bundle.provenance import provenance

DATA = {
    "train": {"provider": "npz", "count": 10, "seed": 0, "files": 1, "sha256": "a" * 64},
    "evaluation": {"provider": "python", "count": None},
}
LINEAGE = {"recipe_sha256": "b" * 64, "weights_sha256": "c" * 64, "seed": 0, "stages": {"export": "key"}, "data": DATA}
CHECK = {"kind": "accuracy", "name": "drop_points", "value": 0.5, "limit": 1.0, "direction": "max", "passed": True}
METRIC = {"name": "top1", "value": 0.9, "float_value": 0.95, "samples": 1000, "ci95": [0.88, 0.92]}


def described(**changes: Any) -> Manifest:
    full = variant(lineage=LINEAGE, metric=METRIC, checks=[{**CHECK, "ci95": [0.1, 0.9]}, CHECK])
    about = {"description": "Reads digits.", "author": "A. Uthor", "license": "Apache-2.0"}
    tools = {"edgepack": "0.1.0", "torch": "2.13.0"}
    return Manifest.model_validate(content(variants=[full], created_with=tools, **{**about, **changes}))


@pytest.fixture(scope="module")
def validator() -> Any:
    """The official JSON Schema of CycloneDX 1.6 with those that it refers to."""
    import cyclonedx.schema._res as schemas
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    folder = Path(str(schemas.__file__)).parent
    names = [f"{name}.SNAPSHOT.schema.json" for name in ("bom-1.6", "spdx", "jsf-0.82")]
    read = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in names}
    base = read[names[0]]["$id"].rpartition("/")[0]
    resources = [(f"{base}/{name}", Resource.from_contents(schema)) for name, schema in read.items()]
    return Draft7Validator(read[names[0]], registry=Registry().with_resources(resources))


@pytest.mark.parametrize(
    "manifest",
    [
        described(),
        described(license="Somebody's own", author="", description=""),
        Manifest.model_validate(content()),
        Manifest.model_validate(content(variants=[variant(lineage=LINEAGE), variant(target="intel", lineage=LINEAGE)])),
    ],
    ids=["full", "own-licence", "bare", "two-variants"],
)
def test_the_bill_of_materials_is_valid_cyclonedx(validator: Any, manifest: Manifest) -> None:
    bom = json.loads(bill_of_materials(manifest))

    assert [f"{list(error.absolute_path)}: {error.message[:200]}" for error in validator.iter_errors(bom)] == []
    refs = [one["bom-ref"] for one in bom["components"]]
    assert len(set(refs)) == len(refs)
    assert {ref for one in bom["dependencies"] for ref in one.get("dependsOn", [])} <= set(refs)


def test_further_metrics_are_in_the_bill_of_materials_and_on_the_card() -> None:
    metric = {**METRIC, "name": "f1", "also": [{"name": "recall", "value": 0.8, "float_value": 0.85}]}
    manifest = Manifest.model_validate(content(variants=[variant(metric=metric)]))

    card = json.loads(bill_of_materials(manifest))["components"][0]["modelCard"]

    assert card["modelParameters"]["task"] == "classification"
    told = {one["type"]: one["value"] for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert (told["recall"], told["recall of the original float model"]) == ("0.8", "0.85")
    assert "- recall: 80.00% on 1000 samples; the original float model has 85.00%" in model_card(manifest)


def test_the_bill_of_materials_names_model_data_quality_and_tools() -> None:
    bom = json.loads(bill_of_materials(described()))

    model = next(one for one in bom["components"] if one["type"] == "machine-learning-model")
    card = model["modelCard"]
    assert model["hashes"][0]["content"] == variant()["model"]["sha256"]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert card["modelParameters"]["inputs"] == [{"format": "image: int8 1 x 2 any"}]
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0]["confidenceInterval"] == {"lowerBound": "0.88", "upperBound": "0.92"}
    assert {one["type"] for one in metrics} == {"top1", "top1 of the original float model", "accuracy: drop_points"}
    data = [one for one in bom["components"] if one["type"] == "data"]
    assert {one["name"] for one in data} == {"train data", "evaluation data"}
    assert {"name": "torch", "type": "library", "version": "2.13.0"} in bom["metadata"]["tools"]["components"]


def test_the_model_card_says_what_a_person_asks_first() -> None:
    card = model_card(described(labels=["a"], postprocess=[{"op": "softmax"}]))

    for words in (
        "# digits 1.0.0 for arm64",
        "licence: Apache-2.0",
        "top1: 90.00% on 1000 samples; the original float model has 95.00%",
        f"train data: npz, 10 samples, sha256 `{'a' * 64}`",
        "evaluation data: python, all samples",
        "| input | `image` | [1, 2] | int8 |",
        "| accuracy: drop_points | 0.5 | ≤ 1 | yes |",
        "1. `{'op': 'softmax'}`",
    ):
        assert words in card, words


def test_equal_manifests_give_equal_bytes_and_others_another_serial_number() -> None:
    first, again, other = (
        bill_of_materials(described()),
        bill_of_materials(described()),
        bill_of_materials(described(version="2")),
    )

    assert first == again
    assert json.loads(first)["serialNumber"] != json.loads(other)["serialNumber"]


def test_the_provenance_is_an_in_toto_statement_with_slsa_provenance() -> None:
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    manifest = described()
    text = json.loads(provenance(manifest, manifest.variants[0]))

    message = ParseDict(text, Message())
    Statement.copy_from_pb(message).validate()
    predicate = ParseDict(text["predicate"], provenance_pb2.Provenance())
    assert predicate.run_details.builder.id == "pkg:pypi/edgepack@0.1.0"
    assert text["subject"] == [{"name": "model/model.tflite", "digest": {"sha256": variant()["model"]["sha256"]}}]
    dependencies = {one.name: one.digest["sha256"] for one in predicate.build_definition.resolved_dependencies}
    assert dependencies == {"recipe": "b" * 64, "weights": "c" * 64, "data: train": "a" * 64}
    assert text["predicate"]["buildDefinition"]["externalParameters"] == {"target": "arm64", "seed": 0}
