"""Whether a manifest and the files of a bundle are about each other."""

from __future__ import annotations

from pathlib import Path

from edgepack.bundle.layout import MANIFEST_NAME, SIGNATURES_NAME, ArchiveLayout
from edgepack.bundle.manifest import Manifest
from edgepack.core.errors import BundleError, did_you_mean

REMEDY = "the file is damaged or was changed; get it again or build it again"


def check_listed(manifest: Manifest, layout: ArchiveLayout) -> None:
    """Raise BundleError unless the manifest's list and the archive's entries are the same files, in the same order, of the same sizes."""
    own = (MANIFEST_NAME, SIGNATURES_NAME)
    present = [(place.entry.name, place.entry.size_bytes) for place in layout.placed if place.entry.name not in own]
    listed = [(file.path, file.size_bytes) for file in manifest.files]
    if present == listed:
        return
    missing = sorted({name for name, _ in listed} - {name for name, _ in present})
    extra = sorted({name for name, _ in present} - {name for name, _ in listed})
    what = f"missing: {_names(missing)}; " if missing else ""
    what += f"not in the manifest: {_names(extra)}; " if extra else ""
    raise BundleError(f"its files are not those of its manifest; {what}{REMEDY}")


def check_consistent(manifest: Manifest, *, where: Path | None) -> None:
    """Raise BundleError unless every file that the manifest speaks of is listed, and each model is the one that it describes."""
    prefix = f"{where}: " if where is not None else ""
    files = {file.path: file for file in manifest.files}
    for variant in manifest.variants:
        for name in variant.files:
            if name not in files:
                raise BundleError(
                    f"{prefix}manifest.json names the file '{name[:200]}', which is missing{did_you_mean(name[:200], files)}"
                )
        for part in variant.model.files:
            found = files[part.path]
            if (found.sha256, found.size_bytes) != (part.sha256, part.size_bytes):
                raise BundleError(
                    f"{prefix}manifest.json: model.sha256 and model.size_bytes are not those of '{part.path}' "
                    f"({found.sha256}, {found.size_bytes} bytes)"
                )


def _names(names: list[str]) -> str:
    shown = ", ".join(name[:200] for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
