"""Several bundles of one model as one: a variant for each target, and what all share stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    parts = [_part(bundle, variant) for bundle in bundles for variant in bundle.manifest.variants]
    targets = [part.variant.target for part in parts]
    if twice := sorted({target for target in targets if targets.count(target) > 1}):
        raise UsageError(
            f"{path}: two of the bundles have a model for the same target ({', '.join(twice)}); leave one out"
        )
    if clash := _OWN_FOLDERS & set(targets):
        raise UsageError(f"{path}: a target called '{min(clash)}' would share a bundle's own folder; rename the target")
    shared = _equal_in_all([part.digests for part in parts])
    variants = [_moved(part, shared) for part in parts]
    manifest = Manifest.model_validate(
        {
            **{name: getattr(first, name) for name in _SHARED},
            "created_with": _merged("created_with", [dict(bundle.manifest.created_with) for bundle in bundles], path),
            "extensions": _merged("extensions", [dict(bundle.manifest.extensions) for bundle in bundles], path),
            "variants": sorted(variants, key=lambda variant: variant.target),
        }
    )
    files: dict[str, Source] = {}
    for part in parts:
        files |= {part.place(name, shared): source for name, source in part.sources.items()}
    return write_bundle(path, manifest=manifest, files={**files, **derived_files(manifest)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A variant and what belongs to it, by the names that the files would have in a bundle of their own; `alone` maps the manifest's names to these."""

    variant: Variant
    sources: dict[str, Source]
    digests: dict[str, str]
    alone: dict[str, str]

    def place(self, name: str, shared: frozenset[str]) -> str:
        """Where a file goes."""
        return name if name in shared else f"{self.variant.target}/{name}"


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


def _part(bundle: Bundle, variant: Variant) -> _Part:
    """What belongs to a variant: the files that it names, those below its folder, and those below no target's folder."""
    own = [f"{target}/" for target in bundle.manifest.targets] if len(bundle.manifest.variants) > 1 else []
    places = {place.entry.name: place for place in bundle.layout.placed}
    part = _Part(variant=variant, sources={}, digests={}, alone={})
    for file in bundle.manifest.files:
        prefix = next((one for one in own if file.path.startswith(one)), "")
        name = file.path.removeprefix(prefix)
        is_ours = prefix in ("", f"{variant.target}/") or file.path in variant.files
        if not is_ours or (name in DERIVED_NAMES and file.path not in variant.files):
            continue
        if part.digests.setdefault(name, file.sha256) != file.sha256:
            raise UsageError(f"{bundle.path}: the model for {variant.target} has two files called '{name}'")
        place = places[file.path]
        part.sources[name] = Region(path=bundle.path, offset=place.data_offset, size_bytes=place.entry.size_bytes)
        part.alone[file.path] = name
    return part


def _equal_in_all(sets: Sequence[dict[str, str]]) -> frozenset[str]:
    """The names under which every variant has the same bytes."""
    first, *others = sets
    return frozenset(name for name, digest in first.items() if all(other.get(name) == digest for other in others))


def _moved(part: _Part, shared: frozenset[str]) -> Variant:
    """The variant with its files at their new places."""

    def place(name: str) -> str:
        return part.place(part.alone[name], shared)

    content = part.variant.model_dump()
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
