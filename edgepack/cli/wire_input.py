"""Wire forms where a command takes a bundle: they are restored first, to a file that lives as long as the command."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from edgepack.core.errors import BundleError

_MAGIC = b"EPKZ"  # that of edgepack.codec.wire, which loads a library


def begins_as_wire(path: Path) -> bool:
    """Whether a file begins as a wire form or a delta; False for one that can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def restored(context: click.Context, _parameter: click.Parameter, path: Path) -> Any:
    """A callback for an argument: the path itself, or that of the bundle which the wire form holds."""
    if context.resilient_parsing or not begins_as_wire(path):
        return path
    from edgepack.codec.wire_files import unpacked

    content = unpacked(path)
    if not content.is_archive:
        raise BundleError(f"{path}: holds a single model file, not a bundle; restore it with: edgepack unpack {path}")
    folder = context.with_resource(TemporaryDirectory(prefix="edgepack-"))
    plain = Path(folder) / content.name
    plain.write_bytes(content.data)
    return plain
