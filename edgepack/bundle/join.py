"""Several bundles of one model as one: a variant for each target, and what all share stored once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepack.bundle.archive import Bundle, write_bundle
from edgepack.bundle.content import Region, Source
from edgepack.bundle.derived import DERIVED_NAMES, derived_files
from edgepack.bundle.manifest import Manifest, Variant
from edgepack.core.errors import UsageError

# What a manifest says once for all its variants, and what differs between bundles that are not of one model.
_SHARED = ("name", "version", "description", "author", "license", "labels", "preprocess", "postprocess")

_OWN_FOLDERS = {"golden", "model", "reports"}


def join(bundles: Sequence[Bundle], path: Path) -> Path:
    """Write one bundle with the variants of all; it is not signed. The same bundles in any order give the same bytes.

    Raises UsageError for bundles that are not of one model or hold the same target twice, BundleError for a damaged one.
    """
    for bundle in bundles:
        bundle.verify()
    first = _refuse_different(bundles)
    sets = {variant.target: _files_of(bundle, variant) for bundle in bundles for variant in bundle.manifest.variants}
    if len(sets) != sum(len(bundle.manifest.variants) for bundle in bundles):
        raise UsageError(
            f"{path}: two of the bundles have a model for the same target ({', '.join(sorted(sets))}); leave one out"
        )
    if clash := _OWN_FOLDERS & set(sets):
        raise UsageError(f"{path}: a target called '{min(clash)}' would share a bundle's own folder; rename the target")
    shared = _equal_in_all([digests for _, digests in sets.values()])
    variants = [
        _moved(variant, _places(list(sets[variant.target][1]), variant.target, shared))
        for bundle in bundles
        for variant in bundle.manifest.variants
    ]
    manifest = Manifest.model_validate(
        {
            **{name: getattr(first, name) for name in _SHARED},
            "created_with": _merged("created_with", [dict(bundle.manifest.created_with) for bundle in bundles], path),
            "extensions": _merged("extensions", [dict(bundle.manifest.extensions) for bundle in bundles], path),
            "variants": sorted(variants, key=lambda variant: variant.target),
        }
    )
    files: dict[str, Source] = {}
    for target, (sources, digests) in sets.items():
        places = _places(list(digests), target, shared)
        files |= {places[name]: source for name, source in sources.items()}
    return write_bundle(path, manifest=manifest, files={**files, **derived_files(manifest)})


def _refuse_different(bundles: Sequence[Bundle]) -> Manifest:
    """The first manifest. Raises UsageError where another is of another model."""
    if not bundles:
        raise UsageError("name at least one bundle to join")
    first, *others = bundles
    for other in others:
        for name in _SHARED:
            if getattr(first.manifest, name) != getattr(other.manifest, name):
                raise UsageError(
                    f"{first.path} and {other.path}: their {name} differ, so they are not of one model; join bundles of one build"
                )
    return first.manifest


def _files_of(bundle: Bundle, variant: Variant) -> tuple[dict[str, Source], dict[str, str]]:
    """What belongs to a variant, by the names that it would have alone: where the bytes are, and their digests."""
    own = [f"{target}/" for target in bundle.manifest.targets] if len(bundle.manifest.variants) > 1 else []
    places = {place.entry.name: place for place in bundle.layout.placed}
    digests = {file.path: file.sha256 for file in bundle.manifest.files}
    sources: dict[str, Source] = {}
    found: dict[str, str] = {}
    for name in digests:
        prefix = next((one for one in own if name.startswith(one)), "")
        alone = name.removeprefix(prefix)
        if prefix not in ("", f"{variant.target}/") or alone in DERIVED_NAMES:
            continue
        place = places[name]
        sources[alone] = Region(path=bundle.path, offset=place.data_offset, size_bytes=place.entry.size_bytes)
        found[alone] = digests[name]
    return sources, found


def _equal_in_all(sets: Sequence[dict[str, str]]) -> frozenset[str]:
    """The names under which every variant has the same bytes."""
    first, *others = sets
    return frozenset(name for name, digest in first.items() if all(other.get(name) == digest for other in others))


def _places(names: Sequence[str], target: str, shared: frozenset[str]) -> dict[str, str]:
    """Where the files of a variant go, by their names alone."""
    return {name: name if name in shared else f"{target}/{name}" for name in names}


def _moved(variant: Variant, places: dict[str, str]) -> Variant:
    """The variant with its files at other places; the names in it may be those of a joined bundle already."""

    def place(name: str) -> str:
        return places[name.removeprefix(f"{variant.target}/") if name not in places else name]

    content = variant.model_dump()
    content["model"]["path"] = place(content["model"]["path"])
    for companion in content["model"]["companions"]:
        companion["path"] = place(companion["path"])
    if (golden := content["golden"]) is not None:
        golden["inputs"] = [place(name) for name in golden["inputs"]]
        golden["outputs"] = [place(name) for name in golden["outputs"]]
        golden["raw"] = None if golden["raw"] is None else place(golden["raw"])
    return Variant.model_validate(content)


def _merged(what: str, parts: Sequence[dict[str, Any]], path: Path) -> dict[str, Any]:
    """The keys of all. Raises UsageError where two differ in one."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if merged.setdefault(name, value) != value:
                raise UsageError(
                    f"{path}: {what}.{name} is {merged[name]} in one bundle and {value} in another; build them again with the same tools"
                )
    return merged
