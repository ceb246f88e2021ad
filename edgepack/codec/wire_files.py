"""Wire files and deltas on disk: what is read is checked whole before anything is written, and what is written is whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.codec.types import Profile
from edgepack.codec.wire import DELTA_SUFFIX, MAGIC, WIRE_SUFFIX, WireHeader, read_header
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import Packed, Progress, pack_wire
from edgepack.core.errors import BundleError
from edgepack.core.files import write_atomic

BUNDLE_SUFFIX = ".edgepack"
_BESIDE_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A bundle's or a model file's bytes, and the name that it has when it is no wire file."""

    name: str
    data: bytes
    is_archive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A wire file that was written, with what is told about it."""

    path: Path
    packed: Packed
    input_bytes: int

    @property
    def ratio(self) -> float:
        """Times smaller than the file that it becomes."""
        return self.input_bytes / len(self.packed.wire)


def content_of(path: Path) -> Content:
    """What a bundle, a model file or the wire form of one holds. Raises BundleError: no such file, damaged, a delta."""
    data = _read(path)
    if not data.startswith(MAGIC):
        return Content(name=path.name, data=data, is_archive=path.suffix == BUNDLE_SUFFIX)
    with _told_of(path):
        header = read_header(data)
        return Content(name=plain_name(path, header), data=unpack_wire(data), is_archive=header.is_archive)


def plain_name(path: Path, header: WireHeader) -> str:
    """The name of what a wire file becomes: 'a.edgepackz' is 'a.edgepack', 'm.tflite.edgepackz' is 'm.tflite'."""
    stem = path.name.removesuffix(WIRE_SUFFIX).removesuffix(DELTA_SUFFIX)
    if header.is_archive:
        return stem.removesuffix(BUNDLE_SUFFIX) + BUNDLE_SUFFIX
    return stem if stem != path.name else f"{path.name}.unpacked"


def wire_name(name: str, suffix: str, *, is_archive: bool) -> str:
    """The name of a file's wire form or delta. What is called like a bundle and is none keeps its ending, so that it gets it back."""
    return (name.removesuffix(BUNDLE_SUFFIX) if is_archive else name) + suffix


def write_packed(path: Path, out: Path | None, *, profile: Profile, progress: Progress | None = None) -> Written:
    """Write the wire form of a bundle or a model file; by default beside it. Raises BundleError as `content_of` and `pack_wire` do."""
    content = content_of(path)
    with _told_of(path):
        packed = pack_wire(
            content.data,
            content.name,
            profile=profile,
            beside=lambda name: _beside(path, name),
            progress=progress,
        )
    return _write(out, path, WIRE_SUFFIX, packed, content)


def write_delta(
    old: Path, new: Path, out: Path | None, *, profile: Profile, progress: Progress | None = None
) -> Written:
    """Write what makes `new` of `old`; by default beside `new`. Both may be bundles, model files or wire forms."""
    base, content = content_of(old), content_of(new)
    with _told_of(new):
        packed = pack_wire(
            content.data,
            content.name,
            profile=profile,
            base=base.data,
            base_name=base.name,
            beside=lambda name: _beside(new, name),
            base_beside=lambda name: _beside(old, name),
            progress=progress,
        )
    return _write(out, new, DELTA_SUFFIX, packed, content)


def unpacked(path: Path) -> Content:
    """What a wire file becomes. Raises BundleError for anything else, a delta included."""
    data = _read(path)
    with _told_of(path):
        header = read_header(data)
        return Content(name=plain_name(path, header), data=unpack_wire(data), is_archive=header.is_archive)


def applied(old: Path, delta: Path) -> Content:
    """What a delta makes of the old file. Raises BundleError where `old` is not the base, or anything is damaged."""
    data = _read(delta)
    base = content_of(old)
    with _told_of(delta):
        header = read_header(data)
        if header.base_sha256 is None:
            raise BundleError("is no delta, so there is nothing to apply; use: edgepack unpack")
        return Content(
            name=plain_name(delta, header), data=unpack_wire(data, base=base.data), is_archive=header.is_archive
        )


def _write(out: Path | None, source: Path, suffix: str, packed: Packed, content: Content) -> Written:
    """By default beside the file that was packed."""
    is_archive = read_header(packed.wire).is_archive
    path = out or source.with_name(wire_name(content.name, suffix, is_archive=is_archive))
    write_atomic(path, packed.wire)
    return Written(path=path, packed=packed, input_bytes=len(content.data))


def _beside(path: Path, name: str) -> bytes | None:
    """A file of the same folder, e.g. the `.xml` of a `.bin`; None where there is none that can be read."""
    file = path.with_name(name)
    try:
        return file.read_bytes() if file.is_file() and file.stat().st_size <= _BESIDE_BYTES_MAX else None
    except OSError:
        return None  # it only helps to find tensors; without it they are bytes


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: no such file") from exc
    except OSError as exc:
        raise BundleError(f"{path}: can't be read: {exc.strerror}") from exc


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Errors say which file they are about."""
    try:
        yield
    except BundleError as exc:
        raise BundleError(f"{path}: {exc}") from exc
    except MemoryError as exc:
        raise BundleError(f"{path}: there is not enough memory to hold what it becomes") from exc
