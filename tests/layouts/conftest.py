from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle.small_bundle import content, files, variant
from registry_server import registry, why_not

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.manifest import Manifest
from edgepack.core.digest import sha256_bytes

XML, BIN = b"<net/>", bytes(range(64))


@pytest.fixture
def small(tmp_path: Path) -> Bundle:
    """A bundle of one variant, signed by nobody."""
    about = {"description": "Tells digits apart.", "author": "us", "license": "MIT"}
    inside = {**files(), "preprocess.py": b"pass\n", "README.md": b"# digits\n"}
    return read_bundle(
        write_bundle(tmp_path / "small.edgepack", manifest=Manifest.model_validate(content(**about)), files=inside)
    )


@pytest.fixture
def joined(tmp_path: Path) -> Bundle:
    """The same with a second model, OpenVINO's two files."""
    model = {
        "path": "intel/model.xml",
        "format": "openvino",
        "sha256": sha256_bytes(XML),
        "size_bytes": len(XML),
        "precision": "int8",
        "companions": [{"path": "intel/model.bin", "sha256": sha256_bytes(BIN), "size_bytes": len(BIN)}],
    }
    variants = [variant(), variant(target="intel", model=model)]
    manifest = Manifest.model_validate(content(variants=variants))
    inside = {**files(), "intel/model.xml": XML, "intel/model.bin": BIN}
    return read_bundle(write_bundle(tmp_path / "joined.edgepack", manifest=manifest, files=inside))


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry of this session, on the loopback interface."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host
