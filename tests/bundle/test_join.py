"""Several bundles as one, and files that are added later."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundle import content, files

from edgepack.bundle import Bundle, read_bundle, with_signatures, write_bundle
from edgepack.bundle.attach import attach
from edgepack.bundle.derived import derived_files
from edgepack.bundle.golden import read_golden, read_raw, to_npy
from edgepack.bundle.join import join
from edgepack.bundle.manifest import Manifest
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError, UsageError

RAW = to_npy(np.zeros((1, 2), np.uint8))


def one(folder: Path, target: str, *, model: bytes = b"a model", **changes: Any) -> Bundle:
    """A bundle for a target as a build writes it: its own model and report, and what all targets share."""
    entry = {"path": "model/model.tflite", "format": "tflite", "precision": "int8"}
    entry |= {"sha256": sha256_bytes(model), "size_bytes": len(model)}
    golden = {
        "inputs": ["golden/input_0.npy"],
        "outputs": ["golden/output_0.npy"],
        "samples": 2,
        "tolerance_steps": 1.0,
    }
    golden |= {"raw": "golden/raw.npy", "raw_samples": 1}
    manifest = Manifest.model_validate(content(target=target, model=entry, golden=golden, **changes))
    inside = {**files(), "model/model.tflite": model, "golden/raw.npy": RAW, "preprocess.py": b"pass\n"}
    inside |= {"reports/verify.json": target.encode(), **derived_files(manifest)}
    return read_bundle(write_bundle(folder / manifest.file_name, manifest=manifest, files=inside))


def test_each_variant_keeps_its_files_and_what_is_equal_is_stored_once(tmp_path: Path) -> None:
    bundles = [one(tmp_path, "intel", model=b"another model"), one(tmp_path, "arm64")]

    joined = read_bundle(join(bundles, tmp_path / "joined.edgepack"))
    joined.verify()

    assert joined.manifest.targets == ("arm64", "intel")
    assert joined.manifest.file_name == "digits-1.0.0.edgepack"
    assert set(joined.names) == {
        "manifest.json", "README.md", "bom.json", "golden/input_0.npy", "golden/output_0.npy", "golden/raw.npy", "empty.txt",
        "labels.txt", "preprocess.py", "arm64/model/model.tflite", "intel/model/model.tflite", "arm64/reports/verify.json",
        "intel/reports/verify.json", "arm64/provenance.json", "intel/provenance.json",
    }  # fmt: skip
    assert joined.read(joined.variant("intel").model.path) == b"another model"
    assert joined.model_path(tmp_path / "cache", joined.variant("arm64")).read_bytes() == b"a model"
    for variant in joined.manifest.variants:
        assert read_golden(joined, variant).outputs["scores"].shape == (2, 3)
        assert read_raw(joined, variant) is not None
    assert b"digits 1.0.0 for arm64 and intel" in joined.read("README.md")


def test_the_order_does_not_matter_and_joined_bundles_can_be_joined(tmp_path: Path) -> None:
    bundles = [one(tmp_path, name, model=name.encode()) for name in ("arm64", "intel", "x86_64")]

    whole = [join(order, tmp_path / "whole").read_bytes() for order in permutations(bundles)]
    pair = read_bundle(join(bundles[1:], tmp_path / "pair"))
    again = join([pair, bundles[0]], tmp_path / "again").read_bytes()

    assert set(whole) == {again}


def test_a_single_bundle_joined_keeps_its_variant(tmp_path: Path) -> None:
    bundle = one(tmp_path, "arm64")

    assert join([bundle], tmp_path / "same").read_bytes() == bundle.path.read_bytes()


@pytest.mark.parametrize("changes", [{"version": "2.0.0"}, {"labels": ["a"]}, {"preprocess": [{"op": "to_float"}]}])
def test_bundles_of_another_model_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "b").mkdir()
    bundles = [one(tmp_path, "arm64"), one(tmp_path / "b", "intel", **changes)]

    with pytest.raises(UsageError, match=f"their {next(iter(changes))} differ"):
        join(bundles, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_the_same_target_twice_and_other_tools_are_refused(tmp_path: Path) -> None:
    bundle = one(tmp_path, "arm64", created_with={"torch": "1"})

    with pytest.raises(UsageError, match=r"the same target \(arm64\)"):
        join([bundle, bundle], tmp_path / "joined")
    with pytest.raises(UsageError, match=r"created_with\.torch is 1 in one bundle and 2 in another"):
        join([bundle, one(tmp_path, "intel", created_with={"torch": "2"})], tmp_path / "joined")


def test_a_damaged_bundle_is_not_joined(tmp_path: Path) -> None:
    good, bad = one(tmp_path, "arm64"), one(tmp_path, "intel")
    bad.path.write_bytes(bad.path.read_bytes().replace(b"a model", b"A model"))

    with pytest.raises(BundleError, match=r"intel\.edgepack: 'model/model\.tflite' is not what was bundled"):
        join([good, bad], tmp_path / "joined")


def test_a_variant_that_names_a_file_below_another_target_takes_it_along(tmp_path: Path) -> None:
    joined = read_bundle(join([one(tmp_path, "arm64"), one(tmp_path, "intel", model=b"other")], tmp_path / "joined"))
    arm64, intel = (variant.model_dump() for variant in joined.manifest.variants)
    manifest = Manifest.model_validate(
        {**joined.manifest.model_dump(), "variants": [arm64, {**intel, "model": arm64["model"]}]}
    )
    strange = write_bundle(
        tmp_path / "strange", manifest=manifest, files={name: joined.read(name) for name in joined.names[1:]}
    )

    with pytest.raises(UsageError, match=r"the model for intel has two files called 'model/model\.tflite'"):
        join([read_bundle(strange)], tmp_path / "again")
    left = {name: joined.read(name) for name in joined.names[1:] if name != "intel/model/model.tflite"}
    write_bundle(strange, manifest=manifest, files=left)
    again = read_bundle(join([read_bundle(strange)], tmp_path / "again"))
    assert [variant.model.path for variant in again.manifest.variants] == ["model/model.tflite"] * 2


def test_files_are_attached_and_the_rest_stays(tmp_path: Path) -> None:
    bundle = one(tmp_path, "arm64")

    more = read_bundle(attach(bundle, {"reports/benchmark.json": b"{}\n"}, tmp_path / "more"))
    more.verify()

    assert more.read("reports/benchmark.json") == b"{}\n"
    assert {name: more.read(name) for name in bundle.names[1:]} == {
        name: bundle.read(name) for name in bundle.names[1:]
    }
    assert more.manifest.variants == bundle.manifest.variants
    replaced = read_bundle(attach(more, {"reports/benchmark.json": b"{1}"}, more.path))
    assert replaced.read("reports/benchmark.json") == b"{1}"


def test_nothing_is_attached_to_a_signed_bundle_or_in_place_of_a_model(tmp_path: Path) -> None:
    bundle = one(tmp_path, "arm64")
    signed = read_bundle(with_signatures(bundle, b"{}", tmp_path / "signed"))

    with pytest.raises(UsageError, match=r"signed: is signed"):
        attach(signed, {"reports/benchmark.json": b"{}"}, tmp_path / "more")
    with pytest.raises(UsageError, match="belongs to the model"):
        attach(bundle, {"golden/raw.npy": b""}, tmp_path / "more")


def test_the_derived_files_follow_from_the_manifest(tmp_path: Path) -> None:
    bundle = one(tmp_path, "arm64")

    assert json.loads(bundle.read("provenance.json"))["subject"][0]["digest"]["sha256"] == sha256_bytes(b"a model")
    assert {name: bundle.read(name) for name in derived_files(bundle.manifest)} == derived_files(bundle.manifest)
