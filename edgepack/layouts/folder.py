"""A plain folder: the bundle's files, with a list of digests that `sha256sum -c` reads."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.core.digest import sha256_bytes
from edgepack.core.files import write_atomic

DIGESTS_NAME = "SHA256SUMS"


def write_folder(bundle: Bundle, variant: Variant | None, folder: Path) -> None:
    """Write the files by the names that they have in the bundle; those of other variants stay out when one is asked for.

    `SHA256SUMS` lists them in the form of `sha256sum` (GNU coreutils). manifest.json is the bundle's own and so also names what
    was left out: it stays as it is, because signatures cover it.
    """
    lines = []
    left_out = _files_of_others(bundle, variant)
    for name in bundle.names:
        if name in left_out:
            continue
        data = bundle.read(name)
        write_atomic(folder / PurePosixPath(name), data)
        lines.append(f"{sha256_bytes(data)}  {name}\n")
    write_atomic(folder / DIGESTS_NAME, "".join(lines).encode())


def _files_of_others(bundle: Bundle, variant: Variant | None) -> set[str]:
    """The files that serve other variants only: those that they alone name, and those in folders of their targets' names."""
    if variant is None:
        return set()
    others = [one for one in bundle.manifest.variants if one.target != variant.target]
    named = {name for one in others for name in one.files} - set(variant.files)
    return named | {name for name in bundle.names if name.startswith(tuple(f"{one.target}/" for one in others))}
