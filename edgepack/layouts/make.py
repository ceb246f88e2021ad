"""Lays a bundle out, and makes an artifact a bundle again: what the command line calls."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgepack.bundle import Bundle, read_bundle
from edgepack.bundle.content import measured, write_archive
from edgepack.core.errors import BundleError, UsageError
from edgepack.core.files import folder_in_the_making, out_of_space_is_clear
from edgepack.layouts import LAYOUTS
from edgepack.layouts.reference import SCHEME, parse_reference
from edgepack.layouts.registry import Pulled, files_in_layout
from edgepack.layouts.registry import pull as pull_from


def export_bundle(bundle: Bundle, layout: str, folder: Path, *, target: str | None = None) -> Path:
    """Write a layout into a new folder, whole or not at all; returns the folder.

    `target` names one variant. Raises UsageError for an unknown layout or target, a choice that is not clear, or a folder that
    is not empty; UnsupportedError for a model that the layout has no place for; BundleError for a damaged bundle.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout '{layout}'; there are {', '.join(LAYOUTS)}")
    write = LAYOUTS.load(layout)
    variant = None if target is None else bundle.variant(target)
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: exists already; name a new folder with -o, or remove it first")
    with folder_in_the_making(folder) as scratch:
        write(bundle, variant, scratch)
        scratch.chmod(0o755)
    return folder


def pull_bundle(
    source: str, output: Path | None, *, plain_http: bool = False, accept: Callable[[Bundle], None] | None = None
) -> Bundle:
    """The bundle in an artifact: `oci://…`, or an OCI layout folder. `output` must be new; None: named as a build names it, here.

    `accept` is asked about the verified bundle before it gets its name; what it raises refuses it. Raises UsageError for a source or an output that is not possible, BundleError for wrong bytes, EnvironmentProblem for a
    registry that fails.
    """
    if output is not None:
        _must_be_new(output)
    place = (output.parent if output else Path()).resolve()
    with out_of_space_is_clear(place / "bundle"):
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=".part-pull-") as scratch:
            pulled = _pulled(source, Path(scratch), plain_http=plain_http)
            made = Path(scratch) / "pulled.edgepack"
            bundle = _laid_out(pulled, made, source)
            if accept is not None:
                accept(bundle)
            final = output or Path(bundle.manifest.file_name)
            _must_be_new(final)
            os.replace(made, final)
    return read_bundle(final)


def _pulled(source: str, scratch: Path, *, plain_http: bool) -> Pulled:
    if source.startswith(SCHEME):
        return pull_from(parse_reference(source), scratch, plain_http=plain_http)
    if not Path(source).is_dir():
        raise UsageError(f"{source}: no such folder; name one with an OCI layout, or {SCHEME}HOST/NAME:TAG")
    return files_in_layout(Path(source))


def _laid_out(pulled: Pulled, made: Path, source: str) -> Bundle:
    """The files as a bundle, verified whole. The archive's structure follows from names and data, so its bytes are the exported ones."""
    try:
        entries = {name: measured(name, file)[0] for name, file in pulled.files.items()}
        write_archive(made, entries, pulled.files)
        bundle = read_bundle(made)
        bundle.verify()
    except BundleError as exc:
        raise BundleError(
            f"{source}: the artifact's files make no bundle: {str(exc).removeprefix(f'{made}: ')}"
        ) from exc
    return bundle


def _must_be_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path}: exists already; name a new file with -o, or remove it first")
