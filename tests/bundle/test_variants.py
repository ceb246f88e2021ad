"""Bundles of several targets, and signatures beside the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_bundle import MODEL, content, files, variant

from edgepack.bundle import read_bundle, with_signatures, write_bundle
from edgepack.bundle.golden import read_golden, read_raw, to_npy
from edgepack.bundle.manifest import Manifest, parse_manifest
from edgepack.core.errors import BundleError, UsageError

SIGNATURES = b'{"signatures": []}\n'


def test_the_only_variant_needs_no_name(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)

    assert bundle.variant() == bundle.variant("arm64") == bundle.manifest.variants[0]
    assert bundle.model_path(bundle_path.parent, bundle.variant()).read_bytes() == MODEL


def test_of_several_variants_one_must_be_named(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(content(variants=[variant(), variant(target="intel")]))
    bundle = read_bundle(write_bundle(tmp_path / manifest.file_name, manifest=manifest, files=files()))

    with pytest.raises(UsageError, match=r"models for arm64, intel; say which one with --variant"):
        bundle.variant()
    with pytest.raises(UsageError, match=r"no model for 'inte' \(did you mean 'intel'\?\)"):
        bundle.variant("inte")
    assert bundle.variant("intel").target == "intel"
    assert list(read_golden(bundle, bundle.variant("intel")).inputs) == ["image"]
    assert (bundle.path.name, bundle.manifest.title) == ("digits-1.0.0.edgepack", "digits 1.0.0 for arm64 and intel")


@pytest.mark.parametrize("targets", [("arm64", "arm64"), ("intel", "arm64")])
def test_targets_are_sorted_and_differ(targets: tuple[str, str]) -> None:
    with pytest.raises(BundleError, match="their targets must differ and be sorted"):
        parse_manifest(json.dumps(content(variants=[variant(target=target) for target in targets])).encode())


def test_a_bundle_of_the_first_format_says_to_build_it_again(bundle_path: Path) -> None:
    old = {**content(), "schema_version": "1.0", "target": "arm64"}

    with pytest.raises(BundleError, match=r"schema_version 1\.0 is of an earlier edgepack.*edgepack build"):
        parse_manifest(json.dumps(old).encode())


def test_signatures_come_last_and_leave_every_other_byte_as_it_was(bundle_path: Path, tmp_path: Path) -> None:
    unsigned = read_bundle(bundle_path)

    signed = read_bundle(with_signatures(unsigned, SIGNATURES, tmp_path / "signed.edgepack"))
    signed.verify()

    assert unsigned.signatures_bytes is None
    assert signed.signatures_bytes == SIGNATURES
    assert signed.names == (*unsigned.names, "signatures.json")
    assert signed.manifest == unsigned.manifest
    assert signed.path.read_bytes().startswith(bundle_path.read_bytes()[: unsigned.layout.tail_offset])
    again = with_signatures(signed, None, tmp_path / "unsigned.edgepack")
    assert again.read_bytes() == bundle_path.read_bytes()
    assert read_bundle(with_signatures(signed, b"other", signed.path)).signatures_bytes == b"other"


def test_no_file_may_be_called_like_the_manifest_or_the_signatures(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(content())

    for name in ("signatures.json", "Signatures.JSON", "manifest.json"):
        with pytest.raises(BundleError, match="written by edgepack itself"):
            write_bundle(tmp_path / "x", manifest=manifest, files={**files(), name: b"x"})


def test_long_signatures_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"signatures\.json: .* bytes are more than"):
        with_signatures(read_bundle(bundle_path), bytes((1 << 20) + 1), tmp_path / "x")


def test_raw_samples_are_read_and_counted(make: Callable[..., Path], tmp_path: Path) -> None:
    import numpy as np

    golden = {**variant()["golden"], "raw": "golden/raw.npy", "raw_samples": 2}
    manifest = Manifest.model_validate(content(golden=golden))
    raw = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    right = write_bundle(tmp_path / "a", manifest=manifest, files={**files(), "golden/raw.npy": to_npy(raw)})
    wrong = write_bundle(tmp_path / "b", manifest=manifest, files={**files(), "golden/raw.npy": to_npy(raw[:1])})

    read = read_raw(read_bundle(right))

    assert read is not None and read.tolist() == raw.tolist()
    assert read_raw(read_bundle(make())) is None
    with pytest.raises(BundleError, match="the manifest says 2 samples"):
        read_raw(read_bundle(wrong))
    for change in ({"raw_samples": None}, {"raw_samples": 3}):
        with pytest.raises(BundleError, match="raw_samples"):
            parse_manifest(json.dumps(content(golden={**golden, **change})).encode())
