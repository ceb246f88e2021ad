"""An OCI artifact with ModelPack's media types, as an OCI image-layout folder that any registry tool can copy.

ModelPack: the CNCF's model-spec v1 (specs-go/v1: mediatype.go, annotations.go; schema/config-schema.json). Layout and manifest: OCI
image-spec 1.1 (image-layout.md, manifest.md). Every file of the bundle is a layer of its own, raw, so a layer's digest is the file's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Manifest, Variant
from edgepack.core.digest import canonical_json, sha256_bytes
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
LAYER_TYPE = "application/vnd.cncf.model.{kind}.v1.raw"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
TITLE = "org.opencontainers.image.title"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_FIRST_DAY = "1980-01-01T00:00:00Z"  # of ZIP, as in the bundle: no file says when it was made
_REGULAR_FILE = ord("0")  # tar's type flag
_FILE_MODE = 0o644


def write_oci(bundle: Bundle, variant: Variant | None, folder: Path) -> None:
    """Write `oci-layout`, `index.json` and `blobs/sha256/…`; the tag is the bundle's version.

    The artifact holds the whole bundle, so that pulling it gives the bundle back byte for byte. Raises UnsupportedError where
    one of several variants is asked for.
    """
    if variant is not None and len(bundle.manifest.variants) > 1:
        raise UnsupportedError(
            f"{bundle.path}: an OCI artifact holds the whole bundle, so that a signature covers it; leave --variant out"
        )
    layers = [_layer(folder, bundle, name, kind) for name, kind in _kinds(bundle)]
    config = _blob(folder, canonical_json(_config(bundle.manifest, [layer["digest"] for layer in layers])).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_TYPE, **config},
        "layers": layers,
        "annotations": _annotations(bundle.manifest),
    }
    place = _blob(folder, canonical_json(manifest).encode())
    entry = {"mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE, **place}
    entry["annotations"] = {"org.opencontainers.image.ref.name": bundle.manifest.version}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    write_atomic(folder / "index.json", canonical_json(index).encode())
    write_atomic(folder / "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}).encode())


def _kinds(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Each file of the bundle and what ModelPack calls such a file."""
    weights = {file.path for variant in bundle.manifest.variants for file in variant.model.files}
    samples = {name for variant in bundle.manifest.variants for name in variant.files} - weights
    for name in bundle.names:
        if name in weights:
            yield name, "weight"
        elif name in samples:
            yield name, "dataset"
        elif name.endswith(".py"):
            yield name, "code"
        else:
            is_text = name.startswith("reports/") or name.endswith(".md") or name == "LICENSE"
            yield name, "doc" if is_text else "weight.config"


def _layer(folder: Path, bundle: Bundle, name: str, kind: str) -> dict[str, Any]:
    place = _blob(folder, bundle.read(name))
    metadata = {"name": name, "mode": _FILE_MODE, "uid": 0, "gid": 0, "size": place["size"]}
    metadata |= {"mtime": _FIRST_DAY, "typeflag": _REGULAR_FILE}
    annotations = {TITLE: name, FILE_PATH: name, FILE_METADATA: canonical_json(metadata)}
    return {"mediaType": LAYER_TYPE.format(kind=kind), **place, "annotations": annotations}


def _blob(folder: Path, data: bytes) -> dict[str, Any]:
    """Keep some bytes by their digest."""
    digest = sha256_bytes(data)
    write_atomic(folder / "blobs" / "sha256" / digest, data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _config(manifest: Manifest, diff_ids: list[str]) -> dict[str, Any]:
    """ModelPack's configuration. What differs between variants is left out; manifest.json has it."""
    descriptor = {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "description": manifest.description,
        "authors": [manifest.author] if manifest.author else [],
        "licenses": [manifest.license] if manifest.license else [],
    }
    formats = {variant.model.format for variant in manifest.variants}
    precisions = {variant.model.precision for variant in manifest.variants}
    technical = {
        "format": formats.pop() if len(formats) == 1 else "",
        "precision": precisions.pop() if len(precisions) == 1 else "",
    }
    return {
        "descriptor": {key: value for key, value in descriptor.items() if value},
        "config": {key: value for key, value in technical.items() if value},
        "modelfs": {"type": "layers", "diffIds": diff_ids},
    }


def _annotations(manifest: Manifest) -> dict[str, str]:
    """OCI's own annotations; `created` is left out, as no file of a bundle says when it was made."""
    known = {
        "title": manifest.title,
        "version": manifest.version,
        "description": manifest.description,
        "authors": manifest.author,
        "licenses": manifest.license,
    }
    return {f"org.opencontainers.image.{key}": value for key, value in known.items() if value}


def layout_manifest(folder: Path) -> tuple[str, bytes]:
    """Digest and bytes of the one manifest in an OCI layout folder.

    Raises UnsupportedError for another number of them; ValueError, KeyError, TypeError or OSError for a folder that is damaged.
    """
    manifests = json.loads((folder / "index.json").read_bytes())["manifests"]
    if len(manifests) != 1:
        raise UnsupportedError(f"{folder}: holds {len(manifests)} artifacts; one is needed")
    digest = str(manifests[0]["digest"])
    if not _DIGEST.match(digest):
        raise ValueError(f"{digest[:80]!r} is no SHA-256")
    return digest, (folder / "blobs" / digest.replace(":", "/")).read_bytes()
