"""Writing and reading bundles: `digits-1.0.0-arm64.edgepack`, one file that any unzip opens."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from edgepack.bundle.layout import (
    END_BYTES,
    MANIFEST_NAME,
    ArchiveLayout,
    Entry,
    Placed,
    directory_place,
    entries_in,
    layout_of,
)
from edgepack.bundle.manifest import Companion, FileEntry, Manifest, ModelEntry, parse_manifest
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.errors import BundleError, UsageError, did_you_mean
from edgepack.core.files import folder_in_the_making, out_of_space_is_clear, write_atomic

_CHUNK_BYTES = 1 << 20
_REMEDY = "the file is damaged or was changed; get it again or build it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An open bundle: its table of contents and its manifest are checked, its files are checked when they are read."""

    path: Path
    manifest: Manifest
    layout: ArchiveLayout

    @property
    def names(self) -> tuple[str, ...]:
        """Every entry in archive order, `manifest.json` included."""
        return tuple(place.entry.name for place in self.layout.placed)

    def read(self, name: str) -> bytes:
        """The bytes of an entry. Raises BundleError for an unknown name, or bytes that are not what the manifest says."""
        place = self._place(name)
        try:
            with self.path.open("rb") as file:
                data = _read_at(file, place.data_offset, place.entry.size_bytes)
        except OSError as exc:
            raise BundleError(f"{self.path}: can't be read: {exc.strerror}") from exc
        self._check(place, digest=sha256_bytes(data), crc32=zlib.crc32(data), size_bytes=len(data))
        return data

    def verify(self) -> None:
        """Read everything and raise BundleError unless every byte of the file is the one that belongs there.

        The layout is rebuilt from the entries and compared, and every file is hashed, so no flipped, missing, additional
        or moved byte passes. It proves that the bundle is whole, not who made it: compare the bundle's own SHA-256
        with one that its author published for that.
        """
        fresh = read_bundle(self.path)
        if fresh != self:
            raise BundleError(f"{self.path}: the file was replaced while it was open; read it again")
        with self.path.open("rb") as file:
            for place in self.layout.placed:
                digest, crc32, size_bytes = hashlib.sha256(), 0, 0
                for chunk in _chunks(file, place.data_offset, place.entry.size_bytes):
                    digest.update(chunk)
                    crc32 = zlib.crc32(chunk, crc32)
                    size_bytes += len(chunk)
                self._check(place, digest=digest.hexdigest(), crc32=crc32, size_bytes=size_bytes)

    def extract(self, folder: Path) -> Path:
        """Write every entry into a new folder, which appears whole or not at all.

        Raises UsageError when the folder exists and is not empty, BundleError when an entry is damaged.
        """
        folder = folder.resolve()
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageError(f"{folder}: exists already; name a new folder or remove it first")
        with folder_in_the_making(folder) as scratch:
            for name in self.names:
                write_atomic(scratch / PurePosixPath(name), self.read(name))
            scratch.chmod(0o755)
        return folder

    def model_path(self, folder: Path) -> Path:
        """The model as a file in a cache folder, named by its SHA-256, for a runtime that opens paths.

        Bundles with the same model share the file. A cached file with other bytes is replaced.
        """
        model = self.manifest.model
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
                write_atomic(file, self.read(entry.path))
        return path

    def _place(self, name: str) -> Placed:
        for place in self.layout.placed:
            if place.entry.name == name:
                return place
        raise BundleError(f"{self.path}: has no file '{name}'{did_you_mean(name, self.names)}")

    def _check(self, place: Placed, *, digest: str, crc32: int, size_bytes: int) -> None:
        name = place.entry.name
        expected = {file.path: file.sha256 for file in self.manifest.files}
        if size_bytes != place.entry.size_bytes or crc32 != place.entry.crc32 or digest != expected.get(name, digest):
            raise BundleError(f"{self.path}: '{name}' is not what was bundled; {_REMEDY}")


def write_bundle(path: Path, *, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Path:
    """Write a bundle atomically; the same manifest and files give the same bytes.

    `files` maps entry names to their content, or to a file that holds it, without `manifest.json`; the manifest's own
    `files` list is filled here. Raises BundleError for a name that isn't allowed, a manifest that doesn't fit the files,
    or more than 4 GiB.
    """
    sources = {name: source for name, source in sorted(files.items()) if name != MANIFEST_NAME}
    if len(sources) != len(files):
        raise BundleError(f"{path}: '{MANIFEST_NAME}' is written from the manifest and can't be given as a file")
    measured = {name: _measure(name, source) for name, source in sources.items()}
    listed = [FileEntry(path=name, sha256=digest, size_bytes=e.size_bytes) for name, (e, digest) in measured.items()]
    complete = manifest.model_copy(update={"files": tuple(listed)})
    _check_consistent(complete, where=path)
    data = complete.to_bytes()
    first = Entry(name=MANIFEST_NAME, size_bytes=len(data), crc32=zlib.crc32(data))
    layout = layout_of([first, *(entry for entry, _ in measured.values())])
    with _new_file(path) as file:
        for place in layout.placed:
            file.write(place.header)
            _copy(file, {**sources, MANIFEST_NAME: data}[place.entry.name], place.entry)
        file.write(layout.tail)
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
        raise BundleError(f"its size doesn't fit its table of contents; {_REMEDY}")
    tail = _read_at(file, offset, directory_bytes + END_BYTES)
    layout = layout_of(entries_in(tail[:directory_bytes]))
    if layout.tail != tail or layout.size_bytes != size_bytes:
        raise BundleError(f"not laid out as a bundle, or repacked by another tool; {_REMEDY}")
    for place in layout.placed:
        if _read_at(file, place.header_offset, len(place.header)) != place.header:
            raise BundleError(f"the header of '{place.entry.name}' is wrong; {_REMEDY}")
    if not layout.placed or layout.placed[0].entry.name != MANIFEST_NAME:
        raise BundleError(f"has no {MANIFEST_NAME}; it is no bundle")
    first = layout.placed[0]
    data = _read_at(file, first.data_offset, first.entry.size_bytes)
    if zlib.crc32(data) != first.entry.crc32:
        raise BundleError(f"{MANIFEST_NAME} is not what was bundled; {_REMEDY}")
    manifest = parse_manifest(data)
    _check_listed(manifest, layout)
    _check_consistent(manifest, where=None)
    return Bundle(path=path, manifest=manifest, layout=layout)


def _check_listed(manifest: Manifest, layout: ArchiveLayout) -> None:
    """The manifest's list and the archive's entries are the same files, in the same order, of the same sizes."""
    present = [(place.entry.name, place.entry.size_bytes) for place in layout.placed[1:]]
    listed = [(file.path, file.size_bytes) for file in manifest.files]
    if present == listed:
        return
    missing = sorted({name for name, _ in listed} - {name for name, _ in present})
    extra = sorted({name for name, _ in present} - {name for name, _ in listed})
    what = f"missing: {', '.join(missing)}; " if missing else ""
    what += f"not in the manifest: {', '.join(extra)}; " if extra else ""
    raise BundleError(f"its files are not those of its manifest; {what}{_REMEDY}")


def _check_consistent(manifest: Manifest, *, where: Path | None) -> None:
    """Every file that the manifest speaks of is there, and the model is the one that it describes."""
    prefix = f"{where}: " if where is not None else ""
    files = {file.path: file for file in manifest.files}
    golden = manifest.golden
    companions = [companion.path for companion in manifest.model.companions]
    for name in (manifest.model.path, *companions, *((*golden.inputs, *golden.outputs) if golden else ())):
        if name not in files:
            raise BundleError(
                f"{prefix}manifest.json names the file '{name}', which is missing{did_you_mean(name, files)}"
            )
    parts: list[ModelEntry | Companion] = [manifest.model, *manifest.model.companions]
    for part in parts:
        found = files[part.path]
        if (found.sha256, found.size_bytes) != (part.sha256, part.size_bytes):
            raise BundleError(
                f"{prefix}manifest.json: model.sha256 and model.size_bytes are not those of '{part.path}' "
                f"({found.sha256}, {found.size_bytes} bytes)"
            )


def _measure(name: str, source: bytes | Path) -> tuple[Entry, str]:
    """An entry and the SHA-256 of its content."""
    digest, crc32, size_bytes = hashlib.sha256(), 0, 0
    for chunk in _content(source):
        digest.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
    return Entry(name=name, size_bytes=size_bytes, crc32=crc32), digest.hexdigest()


def _copy(file: BinaryIO, source: bytes | Path, entry: Entry) -> None:
    crc32, size_bytes = 0, 0
    for chunk in _content(source):
        file.write(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
    if (crc32, size_bytes) != (entry.crc32, entry.size_bytes):
        raise BundleError(f"{source!s}: changed while it was being bundled; run the command again")


def _content(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as exc:
        raise BundleError(f"{source}: this file was to be bundled and does not exist") from exc


def _chunks(file: BinaryIO, offset: int, size_bytes: int) -> Iterator[bytes]:
    file.seek(offset)
    while size_bytes and (chunk := file.read(min(size_bytes, _CHUNK_BYTES))):
        size_bytes -= len(chunk)
        yield chunk


def _read_at(file: BinaryIO, offset: int, size_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(size_bytes)


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """`write_atomic` for content that is written in pieces, as models can be too large for memory."""
    with out_of_space_is_clear(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
