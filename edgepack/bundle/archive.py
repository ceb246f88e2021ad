"""Writing and reading bundles: `digits-1.0.0-arm64.edgepack`, one file that any unzip opens."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from edgepack.bundle.consistency import REMEDY, check_consistent, check_listed
from edgepack.bundle.content import Region, Source, chunks, measured, write_archive
from edgepack.bundle.layout import (
    END_BYTES,
    MANIFEST_NAME,
    SIGNATURES_NAME,
    ArchiveLayout,
    Entry,
    Placed,
    directory_place,
    entries_in,
    layout_of,
)
from edgepack.bundle.manifest import MANIFEST_BYTES_MAX, FileEntry, Manifest, Variant, parse_manifest
from edgepack.bundle.parts import Companion, ModelEntry
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.errors import BundleError, UsageError, did_you_mean
from edgepack.core.files import folder_in_the_making, stream_atomic

SIGNATURES_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An open bundle: its table of contents and its manifest are checked, its files are checked when they are read."""

    path: Path
    manifest: Manifest
    layout: ArchiveLayout

    @property
    def names(self) -> tuple[str, ...]:
        """Every entry in archive order, `manifest.json` included, and `signatures.json` where there is one."""
        return tuple(place.entry.name for place in self.layout.placed)

    @property
    def signatures_bytes(self) -> bytes | None:
        """What `signatures.json` holds, unchecked; None for a bundle that nobody signed."""
        return self.read(SIGNATURES_NAME) if SIGNATURES_NAME in self.names else None

    def variant(self, target: str | None = None) -> Variant:
        """The model for a target; None: the only one. Raises UsageError that lists the targets where that is no answer."""
        targets = self.manifest.targets
        if target is None and len(targets) == 1:
            return self.manifest.variants[0]
        if target is None:
            raise UsageError(f"{self.path}: has models for {', '.join(targets)}; say which one with --variant TARGET")
        for variant in self.manifest.variants:
            if variant.target == target:
                return variant
        raise UsageError(f"{self.path}: has no model for '{target}'{did_you_mean(target, targets)}")

    def variant_like(self, target: str | None) -> Variant:
        """The model for a target, or the only one, whatever it is for. Raises UsageError as `variant` does."""
        return self.variant(target if len(self.manifest.variants) > 1 else None)

    def read(self, name: str) -> bytes:
        """The bytes of an entry. Raises BundleError for an unknown name, or bytes that are not what the manifest says."""
        place = self._place(name)
        try:
            with self.path.open("rb") as file:
                data = _read_at(file, place.data_offset, place.entry.size_bytes)
        except OSError as exc:
            raise BundleError(f"{self.path}: can't be read: {exc.strerror}") from exc
        self._check(place, self._digest(name), sha256_bytes(data), crc32=zlib.crc32(data), size_bytes=len(data))
        return data

    def verify(self) -> None:
        """Read everything and raise BundleError unless every byte of the file is the one that belongs there.

        The layout is rebuilt from the entries and compared, and every file is hashed, so no flipped, missing, additional
        or moved byte passes. It proves that the bundle is whole, not who made it: signatures say that.
        """
        fresh = read_bundle(self.path)
        if fresh != self:
            raise BundleError(f"{self.path}: the file was replaced while it was open; read it again")
        expected = {file.path: file.sha256 for file in self.manifest.files}
        with self.path.open("rb") as file:
            for place in self.layout.placed:
                for _ in self._checked_chunks(file, place, expected.get(place.entry.name)):
                    pass

    def extract(self, folder: Path, *, target: str | None = None) -> Path:
        """Write every entry, or every one that serves a target, into a new folder, which appears whole or not at all.

        Raises UsageError when the folder exists and is not empty, and for an unknown target, BundleError when an entry is damaged.
        """
        kept = self.manifest.targets if target is None else (self.variant(target).target,)
        others = tuple(f"{other}/" for other in self.manifest.targets if other not in kept)
        folder = folder.resolve()
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(f"{folder}: exists already; name a new folder or remove it first")
        with folder_in_the_making(folder) as scratch:
            for name in (name for name in self.names if not name.startswith(others)):
                self._copy(name, scratch / PurePosixPath(name))
            scratch.chmod(0o755)
        return folder

    def model_path(self, folder: Path, variant: Variant | None = None) -> Path:
        """A variant's model (None: the only one's) as a file in a cache folder, named by its SHA-256, for a runtime that opens paths.

        Bundles with the same model share the file. A cached file with other bytes is replaced.
        """
        model = (variant or self.variant()).model
        if not model.companions:
            path = folder / f"{model.sha256}{PurePosixPath(model.path).suffix}"
        else:  # they are found by their names, so the set has a folder of its own
            whole = sha256_bytes("".join([model.sha256, *(one.sha256 for one in model.companions)]).encode())
            path = folder / whole / PurePosixPath(model.path).name
        files: dict[Path, ModelEntry | Companion] = {
            path: model,
            **{path.parent / PurePosixPath(one.path).name: one for one in model.companions},
        }
        for file, entry in files.items():
            if not (file.is_file() and file.stat().st_size == entry.size_bytes and sha256_file(file) == entry.sha256):
                self._copy(entry.path, file)
        return path

    def _copy(self, name: str, path: Path) -> None:
        """Write an entry into a file, atomically; the file appears only where every byte is right."""
        with self.path.open("rb") as file, stream_atomic(path) as copy:
            for chunk in self._checked_chunks(file, self._place(name), self._digest(name)):
                copy.write(chunk)

    def _checked_chunks(self, file: BinaryIO, place: Placed, expected: str | None) -> Iterator[bytes]:
        """The bytes of an entry. Raises BundleError after the last where they are not what was bundled."""
        digest, crc32, size_bytes = hashlib.sha256(), 0, 0
        for chunk in chunks(file, place.data_offset, place.entry.size_bytes):
            digest.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            size_bytes += len(chunk)
            yield chunk
        self._check(place, expected, digest.hexdigest(), crc32=crc32, size_bytes=size_bytes)

    def _place(self, name: str) -> Placed:
        for place in self.layout.placed:
            if place.entry.name == name:
                return place
        raise BundleError(f"{self.path}: has no file '{name}'{did_you_mean(name, self.names)}")

    def _digest(self, name: str) -> str | None:
        return next((file.sha256 for file in self.manifest.files if file.path == name), None)

    def _check(self, place: Placed, expected: str | None, digest: str, *, crc32: int, size_bytes: int) -> None:
        """`expected` is None for the manifest itself and the signatures, which no digest covers."""
        if (size_bytes, crc32) != (place.entry.size_bytes, place.entry.crc32) or digest != (expected or digest):
            raise BundleError(f"{self.path}: '{place.entry.name}' is not what was bundled; {REMEDY}")


def write_bundle(path: Path, *, manifest: Manifest, files: Mapping[str, Source]) -> Path:
    """Write a bundle atomically; the same manifest and files give the same bytes.

    `files` maps entry names to their content, or to a file that holds it, without `manifest.json`; the manifest's own
    `files` list is filled here. Raises BundleError for a name that isn't allowed, a manifest that doesn't fit the files,
    or more than 4 GiB.
    """
    _forbid(files, path)
    found = {name: measured(name, source) for name, source in sorted(files.items())}
    listed = [FileEntry(path=name, sha256=digest, size_bytes=e.size_bytes) for name, (e, digest) in found.items()]
    complete = manifest.model_copy(update={"files": tuple(listed)})
    check_consistent(complete, where=path)
    data = complete.to_bytes()
    entries = {name: entry for name, (entry, _) in found.items()} | {MANIFEST_NAME: _entry(MANIFEST_NAME, data)}
    write_archive(path, entries, {**files, MANIFEST_NAME: data})
    return path


def with_signatures(bundle: Bundle, signatures: bytes | None, path: Path) -> Path:
    """Write a bundle with other signatures (None: without any); every other entry has the bytes it had. Raises BundleError for over 1 MiB."""
    if signatures is not None:
        _refuse_long(SIGNATURES_NAME, len(signatures), SIGNATURES_BYTES_MAX)
    entries: dict[str, Entry] = {}
    sources: dict[str, Source] = {}
    for place in bundle.layout.placed:
        entries[place.entry.name] = place.entry
        sources[place.entry.name] = Region(
            path=bundle.path, offset=place.data_offset, size_bytes=place.entry.size_bytes
        )
    entries.pop(SIGNATURES_NAME, None)
    if signatures is not None:
        entries[SIGNATURES_NAME], sources[SIGNATURES_NAME] = _entry(SIGNATURES_NAME, signatures), signatures
    write_archive(path, entries, sources)
    return path


def read_bundle(path: Path) -> Bundle:
    """Open a bundle: checks the whole structure and the manifest, and leaves the other files' content to `read` and `verify`.

    Raises BundleError for a file that is no ZIP, is cut off or laid out in another way, has missing, additional or
    unsafely named entries, an invalid manifest or a higher schema version.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: no such file; name a .edgepack file that 'edgepack build' wrote") from exc
    except OSError as exc:
        raise BundleError(f"{path}: can't be read: {exc.strerror}") from exc
    except BundleError as exc:
        raise BundleError(f"{path}: {exc}") from exc


def _read(path: Path, file: BinaryIO) -> Bundle:
    size_bytes = file.seek(0, os.SEEK_END)
    end = _read_at(file, max(0, size_bytes - END_BYTES), END_BYTES)
    offset, directory_bytes = directory_place(end)
    if offset + directory_bytes + END_BYTES != size_bytes:
        raise BundleError(f"its size doesn't fit its table of contents; {REMEDY}")
    tail = _read_at(file, offset, directory_bytes + END_BYTES)
    layout = layout_of(entries_in(tail[:directory_bytes]))
    if layout.tail != tail or layout.size_bytes != size_bytes:
        raise BundleError(f"not laid out as a bundle, or repacked by another tool; {REMEDY}")
    for place in layout.placed:
        if _read_at(file, place.header_offset, len(place.header)) != place.header:
            raise BundleError(f"the header of '{place.entry.name}' is wrong; {REMEDY}")
    if not layout.placed or layout.placed[0].entry.name != MANIFEST_NAME:
        raise BundleError(f"has no {MANIFEST_NAME}; it is no bundle")
    first, last = layout.placed[0], layout.placed[-1]
    _refuse_long(MANIFEST_NAME, first.entry.size_bytes, MANIFEST_BYTES_MAX)
    if last.entry.name == SIGNATURES_NAME:
        _refuse_long(SIGNATURES_NAME, last.entry.size_bytes, SIGNATURES_BYTES_MAX)
    data = _read_at(file, first.data_offset, first.entry.size_bytes)
    if zlib.crc32(data) != first.entry.crc32:
        raise BundleError(f"{MANIFEST_NAME} is not what was bundled; {REMEDY}")
    manifest = parse_manifest(data)
    check_listed(manifest, layout)
    check_consistent(manifest, where=None)
    return Bundle(path=path, manifest=manifest, layout=layout)


def _refuse_long(name: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise BundleError(f"{name}: {size_bytes:,} bytes are more than the {limit_bytes:,} that it may have")


def _entry(name: str, data: bytes) -> Entry:
    return Entry(name=name, size_bytes=len(data), crc32=zlib.crc32(data))


def _read_at(file: BinaryIO, offset: int, size_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(size_bytes)


def _forbid(files: Mapping[str, object], path: Path) -> None:
    for name in files:
        if name.lower() in (MANIFEST_NAME, SIGNATURES_NAME):
            raise BundleError(f"{path}: '{name}' is written by edgepack itself and can't be given as a file")
