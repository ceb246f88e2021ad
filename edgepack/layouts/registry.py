"""Artifacts pushed to and pulled from a registry, by the `oras` Python client; every digest is checked here again.

The extra `oci` installs the client. Credentials are those of `docker login` or `oras login` (Docker's config file).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.errors import BundleError, EnvironmentProblem, UsageError
from edgepack.layouts.oci import ARTIFACT_TYPE, FILE_PATH, MANIFEST_TYPE, layout_manifest
from edgepack.layouts.reference import Reference

_ALIVE_TIMEOUT_S = 15.0
_MANIFEST_BYTES_MAX = 4 << 20  # what the distribution spec asks registries to take
_LAYERS_MAX = 4096
_FILES_BYTES_MAX = 4 << 30  # no bundle is larger, so no more is fetched
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An artifact's files on this machine: `files` maps each name in the bundle to a file whose digest was checked."""

    digest: str
    files: dict[str, Path]


def push(folder: Path, reference: Reference, *, plain_http: bool = False) -> str:
    """Copy an OCI layout folder to a registry; the digest of its manifest, which the registry confirmed.

    Raises EnvironmentProblem when the registry can't be reached or refuses, UsageError for a reference with a digest.
    """
    if reference.digest is not None:
        raise UsageError(f"{reference}: a digest can't be pushed to; name a tag")
    digest, data = layout_manifest(folder)
    content = json.loads(data)
    with _client(reference, plain_http=plain_http) as (client, container):
        for blob in (content["config"], *content["layers"]):
            answer = client.upload_blob(str(folder / "blobs" / blob["digest"].replace(":", "/")), container, blob)
            _must(answer, (200, 201), f"{reference}: can't store {blob['digest']}")
        tag = reference.tag or "latest"
        url = f"{client.prefix}://{container.manifest_url(tag)}"
        answer = client.do_request(url, "PUT", data=data, headers={"Content-Type": MANIFEST_TYPE})
        _must(answer, (200, 201), f"{reference}: can't store the manifest")
        confirmed = answer.headers.get("Docker-Content-Digest", digest)
    if confirmed != digest:
        raise EnvironmentProblem(f"{reference}: the registry says {confirmed} is stored, and {digest} was sent")
    return digest


def pull(reference: Reference, folder: Path, *, plain_http: bool = False) -> Pulled:
    """The artifact's files in a folder, each checked against the manifest, and the manifest against the digest asked for.

    Raises BundleError for an artifact that is no ModelPack or has wrong bytes, EnvironmentProblem when the registry fails.
    """
    with _client(reference, plain_http=plain_http) as (client, container):
        url = f"{client.prefix}://{container.manifest_url(reference.digest or reference.tag or 'latest')}"
        answer = client.do_request(url, "GET", headers={"Accept": MANIFEST_TYPE})
        _must(answer, (200,), f"{reference}: no such artifact")
        digest, layers = _read_manifest(reference, answer.content)
        files: dict[str, Path] = {}
        for number, layer in enumerate(layers):
            file = folder / f"layer-{number}"
            with client.get_blob(container, layer["digest"], stream=True) as blob:
                _must(blob, (200,), f"{reference}: can't get {layer['digest']}")
                _save(blob.iter_content(1 << 20), file, layer, reference)
            files[layer["annotations"][FILE_PATH]] = file
    return Pulled(digest=digest, files=files)


def files_in_layout(folder: Path) -> Pulled:
    """The same for an OCI layout folder, whose files stay where they are."""
    if not (folder / "oci-layout").is_file():
        raise UsageError(f"{folder}: no OCI layout (it has no file 'oci-layout')")
    where = str(folder)
    try:
        digest, data = layout_manifest(folder)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(
            f"{where}: its index.json names no artifact that is there ({type(exc).__name__}: {exc})"
        ) from exc
    if f"sha256:{sha256_bytes(data)}" != digest:
        raise BundleError(f"{where}: the manifest has not the digest {digest}; copy the artifact again")
    files = {}
    for layer in _read_manifest(where, data)[1]:
        file = folder / "blobs" / layer["digest"].replace(":", "/")
        _check(file, layer, where)
        files[layer["annotations"][FILE_PATH]] = file
    return Pulled(digest=digest, files=files)


def _read_manifest(reference: Reference | str, data: bytes) -> tuple[str, list[dict[str, Any]]]:
    """The digest and the layers of a ModelPack manifest; names are checked later, as the bundle is laid out."""
    digest = f"sha256:{sha256_bytes(data)}"
    wanted = reference.digest if isinstance(reference, Reference) else None
    if wanted is not None and digest != wanted:
        raise BundleError(f"{reference}: the registry gave another manifest, {digest}; don't use it")
    try:
        if len(data) > _MANIFEST_BYTES_MAX:
            raise ValueError(f"a manifest of {len(data)} bytes")
        content = json.loads(data)
        if content["artifactType"] != ARTIFACT_TYPE:
            raise ValueError(f"its type is {content['artifactType']!r}")
        layers: list[dict[str, Any]] = content["layers"]
        _check_layers(layers)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        what = f"{type(exc).__name__}: {exc}"[:200]
        raise BundleError(f"{reference}: not a model artifact as edgepack writes it ({what})") from exc
    return digest, layers


def _check_layers(layers: list[dict[str, Any]]) -> None:
    """Raise ValueError, KeyError or TypeError unless each layer has a name of its own, a digest and a size, and all fit into a bundle."""
    names = [layer["annotations"][FILE_PATH] for layer in layers]
    sizes = [layer["size"] for layer in layers]
    if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > _FILES_BYTES_MAX:
        raise ValueError("sizes that no bundle has")
    if len(layers) > _LAYERS_MAX or len(set(names)) != len(names):
        raise ValueError("too many layers, or two of one name")
    if not all(_DIGEST.match(layer["digest"]) for layer in layers):
        raise ValueError("a digest that is no SHA-256")


def _save(pieces: Iterator[bytes], file: Path, layer: dict[str, Any], reference: Reference) -> None:
    """Keep a blob, but never more of it than its size."""
    left = layer["size"]
    with file.open("wb") as out:
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            out.write(piece)
    _check(file, layer, str(reference))


def _check(file: Path, layer: dict[str, Any], where: str) -> None:
    if not file.is_file() or file.stat().st_size != layer["size"] or f"sha256:{sha256_file(file)}" != layer["digest"]:
        raise BundleError(
            f"{where}: '{layer['annotations'][FILE_PATH]}' has not the digest {layer['digest']}; get it again"
        )


@contextmanager
def _client(reference: Reference, *, plain_http: bool) -> Iterator[tuple[Any, Any]]:
    """oras' client for a registry that answers, and its name of the repository."""
    try:
        import oras.client
        import requests
    except ModuleNotFoundError as exc:
        raise EnvironmentProblem(
            f"{reference}: registries need the package 'oras'; install it with: pip install 'edgepack[oci]'"
        ) from exc
    client = oras.client.OrasClient(hostname=reference.host, insecure=plain_http or reference.is_loopback)
    container = client.get_container(f"{reference.host}/{reference.name}")
    container.registry = reference.host  # oras takes a host without a dot for a namespace
    try:
        # Asked first and once: oras itself tries again for half a minute.
        client.session.get(f"{client.prefix}://{reference.host}/v2/", timeout=_ALIVE_TIMEOUT_S)
        client.auth.load_configs(container)
        yield client, container
    except requests.exceptions.RequestException as exc:
        kind = "plain HTTP" if client.prefix == "http" else "HTTPS; --plain-http is for registries without it"
        raise EnvironmentProblem(
            f"{reference}: the registry can't be reached ({type(exc).__name__}, by {kind})"
        ) from exc
    except ValueError as exc:  # how oras says that a login is missing
        raise EnvironmentProblem(f"{reference}: {exc}; log in with: oras login {reference.host}") from exc


def _must(answer: Any, allowed: tuple[int, ...], what: str) -> None:
    if answer.status_code not in allowed:
        raise EnvironmentProblem(f"{what}: the registry answered {answer.status_code} {answer.reason}")
