"""Files added to a finished bundle, such as a benchmark's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgepack.bundle.archive import Bundle, write_bundle
from edgepack.bundle.content import Region, Source
from edgepack.bundle.layout import MANIFEST_NAME
from edgepack.core.errors import UsageError


def attach(bundle: Bundle, files: Mapping[str, bytes], path: Path) -> Path:
    """Write a bundle with more files, or other contents of some; everything else keeps its bytes, the manifest its words.

    Raises UsageError for a signed bundle, BundleError for a damaged one, or a file that the model or its proof depends on.
    """
    refuse_signed(bundle)
    bundle.verify()
    named = {name for variant in bundle.manifest.variants for name in variant.files}
    if clash := sorted(named & set(files)):
        raise UsageError(
            f"{bundle.path}: '{clash[0]}' belongs to the model and can't be replaced; build the bundle again"
        )
    sources: dict[str, Source] = {
        place.entry.name: Region(path=bundle.path, offset=place.data_offset, size_bytes=place.entry.size_bytes)
        for place in bundle.layout.placed
        if place.entry.name != MANIFEST_NAME
    }
    return write_bundle(path, manifest=bundle.manifest, files={**sources, **files})


def refuse_signed(bundle: Bundle) -> None:
    """Raise UsageError for a bundle whose signature a change would end."""
    if bundle.signatures_bytes is not None:
        raise UsageError(
            f"{bundle.path}: is signed, and a changed bundle is not what was signed; attach first, or to the unsigned bundle, and sign then"
        )
