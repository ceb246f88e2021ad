"""Artifacts in a real registry: pushed, pulled by tag and digest, and refused where the bytes are others."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from registry_server import free_port

from edgepack.bundle import Bundle
from edgepack.cli import app
from edgepack.core.errors import BundleError, EnvironmentProblem, UsageError
from edgepack.layouts.make import export_bundle, pull_bundle
from edgepack.layouts.reference import parse_reference
from edgepack.layouts.registry import push


def test_a_pushed_bundle_is_pulled_byte_for_byte(joined: Bundle, registry_host: str, tmp_path: Path) -> None:
    address = f"oci://{registry_host}/team/digits:1.0.0"
    folder = export_bundle(joined, "oci", tmp_path / "artifact")

    digest = push(folder, parse_reference(address))
    by_tag = pull_bundle(address, tmp_path / "tag.edgepack")
    by_digest = pull_bundle(f"oci://{registry_host}/team/digits@{digest}", tmp_path / "digest.edgepack")

    assert by_tag.path.read_bytes() == by_digest.path.read_bytes() == joined.path.read_bytes()
    assert push(folder, parse_reference(address)) == digest


def test_oras_itself_pulls_the_files_by_their_names(small: Bundle, registry_host: str, tmp_path: Path) -> None:
    import oras.client

    folder = export_bundle(small, "oci", tmp_path / "artifact")
    push(folder, parse_reference(f"oci://{registry_host}/team/files:1"))

    client = oras.client.OrasClient(hostname=registry_host, insecure=True)
    client.pull(f"{registry_host}/team/files:1", outdir=str(tmp_path / "pulled"))

    for name in small.names:
        assert (tmp_path / "pulled" / name).read_bytes() == small.read(name)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (apt install skopeo)")
def test_skopeo_copies_the_artifact_to_a_registry_and_back(small: Bundle, registry_host: str, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")
    address = f"docker://{registry_host}/team/copied:1"

    for pair in (
        ["--dest-tls-verify=false", f"oci:{folder}:1.0.0", address],
        ["--src-tls-verify=false", address, "oci:back:1"],
    ):
        subprocess.run(["skopeo", "copy", "--quiet", *pair], cwd=tmp_path, check=True, timeout=60)

    from_registry = pull_bundle(f"oci://{registry_host}/team/copied:1", tmp_path / "a.edgepack")
    from_folder = pull_bundle(str(tmp_path / "back"), tmp_path / "b.edgepack")
    assert from_registry.path.read_bytes() == from_folder.path.read_bytes() == small.path.read_bytes()


def test_the_commands_push_and_pull(
    small: Bundle, registry_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"oci://{registry_host}/digits:1.0.0"

    pushed = CliRunner().invoke(app, ["export", str(small.path), "--as", "oci", "--push", address])
    assert pushed.exit_code == 0, pushed.output
    assert pushed.output.startswith(f"{address}@sha256:")
    pulled = CliRunner().invoke(app, ["pull", pushed.output.strip()])

    assert pulled.exit_code == 0, pulled.output
    assert (tmp_path / "digits-1.0.0-arm64.edgepack").read_bytes() == small.path.read_bytes()


def test_a_registry_that_gives_other_bytes_is_not_believed(small: Bundle, registry_host: str, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")
    push(folder, parse_reference(f"oci://{registry_host}/damaged:1"))
    digest = hashlib.sha256(small.read("model/model.tflite")).hexdigest()
    store = next(tmp_path.parent.rglob(f"{digest}/data"))
    whole = store.read_bytes()

    store.write_bytes(bytes(len(whole)))  # as on a failing disk: the registry itself doesn't look
    try:
        with pytest.raises(BundleError, match=r"'model/model\.tflite' has not the digest"):
            pull_bundle(f"oci://{registry_host}/damaged:1", tmp_path / "again.edgepack")
    finally:
        store.write_bytes(whole)
    assert list(tmp_path.glob("again*")) == []


def test_an_artifact_that_is_not_there_is_said(registry_host: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no such artifact: the registry answered 404"):
        pull_bundle(f"oci://{registry_host}/nobody:1", tmp_path / "x.edgepack")


def test_a_registry_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("oras")
    with pytest.raises(EnvironmentProblem, match="can't be reached"):
        pull_bundle(f"oci://127.0.0.1:{free_port()}/digits:1", tmp_path / "x.edgepack")


def test_a_push_needs_a_tag_and_a_registry_an_artifact(small: Bundle, tmp_path: Path) -> None:
    folder = export_bundle(small, "oci", tmp_path / "artifact")

    with pytest.raises(UsageError, match="name a tag"):
        push(folder, parse_reference(f"oci://localhost:1/digits@sha256:{'0' * 64}"))
    answer = CliRunner().invoke(app, ["export", str(small.path), "--as", "folder", "--push", "oci://localhost:1/a:1"])
    assert "give --as oci" in answer.output


@pytest.mark.parametrize(
    ("text", "host", "name", "tag", "is_loopback"),
    [
        ("oci://localhost:5000/name:tag", "localhost:5000", "name", "tag", True),
        ("oci://registry.example/team/digits", "registry.example", "team/digits", None, False),
        (f"oci://[::1]:80/a/b:1@sha256:{'a' * 64}", "[::1]:80", "a/b", "1", True),
        ("oci://127.0.0.1:5000/a", "127.0.0.1:5000", "a", None, True),
        ("oci://127.0.0.1.example/a", "127.0.0.1.example", "a", None, False),
    ],
)
def test_addresses_have_parts(text: str, host: str, name: str, tag: str | None, is_loopback: bool) -> None:
    found = parse_reference(text)

    assert (found.host, found.name, found.tag, found.is_loopback) == (host, name, tag, is_loopback)
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["localhost/a:1", "oci://a", "oci://a/B", "oci://a/b:", "oci://a/b@sha256:1", "oci:///b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an artifact's address"):
        parse_reference(text)
