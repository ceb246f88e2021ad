"""Layouts: what is written, that it is the same each time, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.small_bundle import content, files
from click.testing import CliRunner

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.manifest import Manifest
from edgepack.cli import app
from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import BundleError, UnsupportedError, UsageError
from edgepack.layouts import LAYOUTS
from edgepack.layouts.make import export_bundle, pull_bundle


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_same_bundle_gives_the_same_files(layout: str, small: Bundle, tmp_path: Path) -> None:
    first = export_bundle(small, layout, tmp_path / "a")
    second = export_bundle(small, layout, tmp_path / "b")

    assert written(first) == written(second) != {}


def test_a_folder_has_the_bundles_files_and_their_digests(small: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(small, "folder", tmp_path / "out")

    found = written(folder)
    digests = found.pop("SHA256SUMS").decode()
    assert found == {name: small.read(name) for name in small.names}
    assert digests.splitlines() == [f"{hashlib.sha256(found[name]).hexdigest()}  {name}" for name in small.names]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True, timeout=30)


def test_a_folder_for_one_variant_leaves_the_models_of_others_out(joined: Bundle, tmp_path: Path) -> None:
    both = written(export_bundle(joined, "folder", tmp_path / "both"))
    arm = written(export_bundle(joined, "folder", tmp_path / "arm", target="arm64"))

    assert set(both) - set(arm) == {"intel/model.xml", "intel/model.bin"}
    assert "labels.txt" in arm


def test_a_model_servers_repository_takes_the_openvino_model(joined: Bundle, tmp_path: Path) -> None:
    found = written(export_bundle(joined, "ovms", tmp_path / "models"))

    config = json.loads(found.pop("config.json"))
    assert config == {"model_config_list": [{"config": {"name": "digits", "base_path": "/models/digits"}}]}
    assert found == {"digits/1/model.xml": b"<net/>", "digits/1/model.bin": bytes(range(64))}


def test_a_model_servers_repository_takes_another_variant_when_asked(joined: Bundle, tmp_path: Path) -> None:
    found = written(export_bundle(joined, "ovms", tmp_path / "models", target="arm64"))

    assert set(found) == {"config.json", "digits/1/model.tflite"}


def test_an_artifact_is_an_oci_layout_whose_digests_are_those_of_the_files(small: Bundle, tmp_path: Path) -> None:
    found = written(export_bundle(small, "oci", tmp_path / "artifact"))

    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in found.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    (entry,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{entry['digest'].replace(':', '/')}"])
    layers = {layer["annotations"]["org.cncf.model.filepath"]: layer for layer in manifest["layers"]}
    assert set(layers) == set(small.names)
    for name, layer in layers.items():
        assert layer["digest"] == f"sha256:{hashlib.sha256(small.read(name)).hexdigest()}"


def test_an_artifact_has_modelpacks_types_and_configuration(small: Bundle, tmp_path: Path) -> None:
    found = written(export_bundle(small, "oci", tmp_path / "artifact"))

    (entry,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{entry['digest'].replace(':', '/')}"])
    config = json.loads(found[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
    types = {layer["annotations"]["org.opencontainers.image.title"]: layer["mediaType"] for layer in manifest["layers"]}
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert types["model/model.tflite"] == "application/vnd.cncf.model.weight.v1.raw"
    assert types["golden/input_0.npy"] == "application/vnd.cncf.model.dataset.v1.raw"
    assert types["preprocess.py"] == "application/vnd.cncf.model.code.v1.raw"
    assert types["README.md"] == "application/vnd.cncf.model.doc.v1.raw"
    assert types["manifest.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    assert config["config"] == {"format": "tflite", "precision": "int8"}
    assert config["descriptor"]["name"] == "digits"
    assert config["descriptor"]["licenses"] == ["MIT"]
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}


def test_an_artifact_becomes_the_very_bundle_again(joined: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(joined, "oci", tmp_path / "artifact")

    pulled = pull_bundle(str(folder), tmp_path / "again.edgepack")

    assert pulled.path.read_bytes() == joined.path.read_bytes()


def test_an_artifact_with_another_byte_is_refused(small: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")
    digest = hashlib.sha256(small.read("model/model.tflite")).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(bytes(96))

    with pytest.raises(BundleError, match=r"'model/model\.tflite' has not the digest"):
        pull_bundle(str(folder), tmp_path / "again.edgepack")
    assert not (tmp_path / "again.edgepack").exists()


def test_an_artifact_holds_the_whole_bundle_or_nothing(joined: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="leave --variant out"):
        export_bundle(joined, "oci", tmp_path / "artifact", target="intel")
    assert not (tmp_path / "artifact").exists()


def test_what_is_not_possible_is_said(small: Bundle, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()

    with pytest.raises(UsageError, match="unknown layout 'zip'; there are folder, oci, ovms"):
        export_bundle(small, "zip", tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        export_bundle(small, "folder", tmp_path / "full")
    with pytest.raises(UsageError, match="has no model for 'gpu'"):
        export_bundle(small, "folder", tmp_path / "out", target="gpu")
    with pytest.raises(UsageError, match="no such folder"):
        pull_bundle(str(tmp_path / "nowhere"), None)
    with pytest.raises(UsageError, match="no OCI layout"):
        pull_bundle(str(tmp_path / "full"), tmp_path / "b.edgepack")
    with pytest.raises(UsageError, match="exists already; name a new file"):
        pull_bundle(str(tmp_path / "full"), small.path)


def test_openvino_opens_the_model_from_the_repository(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    names = {"x": openvino.op.Parameter(openvino.Type.f32, openvino.Shape([1, 4]))}
    network = openvino.Model([openvino.opset13.relu(names["x"])], [names["x"]], "net")
    openvino.save_model(network, tmp_path / "model.xml", compress_to_fp16=False)
    parts = {name: (tmp_path / name).read_bytes() for name in ("model.xml", "model.bin")}
    entries = {
        name: {"path": f"model/{name}", "sha256": sha256_bytes(data), "size_bytes": len(data)}
        for name, data in parts.items()
    }
    model = {**entries["model.xml"], "format": "openvino", "precision": "float32", "companions": [entries["model.bin"]]}
    inside = {**files(), **{f"model/{name}": data for name, data in parts.items()}}
    bundle = read_bundle(
        write_bundle(tmp_path / "net.edgepack", manifest=Manifest.model_validate(content(model=model)), files=inside)
    )

    folder = export_bundle(bundle, "ovms", tmp_path / "models")

    opened = openvino.Core().compile_model(folder / "digits" / "1" / "model.xml", "CPU")
    assert opened([np.array([[-1, 2, -3, 4]], np.float32)])[0].tolist() == [[0.0, 2.0, 0.0, 4.0]]


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """An artifact whose manifest was changed, with digests that fit again."""
    index = json.loads((folder / "index.json").read_bytes())
    blobs = folder / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_bytes())
    change(manifest)
    data = json.dumps(manifest).encode()
    index["manifests"][0]["digest"] = f"sha256:{sha256_bytes(data)}"
    (blobs / sha256_bytes(data)).write_bytes(data)
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("artifactType"), "not a model artifact"),
        (lambda m: m.update(layers=None), "not a model artifact"),
        (lambda m: m["layers"].append(m["layers"][0]), "two of one name"),
        (lambda m: m["layers"][0].update(size=-1), "sizes that no bundle has"),
        (lambda m: m["layers"][0].update(size=1 << 40), "sizes that no bundle has"),
        (lambda m: m["layers"][0].update(size=True), "sizes that no bundle has"),
        (lambda m: m["layers"][0].update(digest="sha256:../../../secret"), "no SHA-256"),
        (lambda m: m["layers"][0]["annotations"].clear(), "KeyError"),
        (lambda m: m["layers"][0]["annotations"].update({"org.cncf.model.filepath": ["a"]}), "TypeError"),
        (lambda m: m["layers"][0]["annotations"].update({"org.cncf.model.filepath": "../up"}), "make no bundle"),
        (lambda m: m["layers"][0]["annotations"].update({"org.cncf.model.filepath": "/etc/x"}), "make no bundle"),
        (lambda m: m["layers"].pop(), "make no bundle"),
        (lambda m: m["layers"][0].update(digest="sha256:" + "0" * 64), "has not the digest"),
    ],
)
def test_a_hostile_artifact_is_refused(change: Any, message: str, small: Bundle, tmp_path: Path) -> None:
    folder = rewritten(export_bundle(small, "oci", tmp_path / "artifact"), change)

    with pytest.raises(BundleError, match=message):
        pull_bundle(str(folder), tmp_path / "out" / "again.edgepack")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"manifests": [{"digest": "sha256:../../x"}]}', '{"manifests": [{}]}'])
def test_a_damaged_index_is_refused(text: str, small: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")
    (folder / "index.json").write_text(text, encoding="utf-8")

    with pytest.raises(BundleError, match=r"its index\.json names no artifact"):
        pull_bundle(str(folder), tmp_path / "again.edgepack")


def test_an_unsigned_bundle_is_neither_exported_nor_pulled_where_that_is_asked(small: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")
    out = tmp_path / "out"

    exported = CliRunner().invoke(
        app, ["export", str(small.path), "--as", "folder", "-o", str(out), "--require-signed"]
    )
    pulled = CliRunner().invoke(app, ["pull", str(folder), "-o", str(out / "b.edgepack"), "--require-signed"])

    assert (exported.exit_code, pulled.exit_code) == (13, 13), exported.output + pulled.output
    assert not list(out.rglob("*"))
