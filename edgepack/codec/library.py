"""The compiled codec, through ctypes (which lets other threads run meanwhile)."""

from __future__ import annotations

import ctypes
import functools
import threading
import warnings
from pathlib import Path
from typing import cast

from edgepack.codec.compiling import (
    BUILT,
    CompilationFailed,
    CompilerMissing,
    compile_library,
    platform_name,
    sources_digest,
)
from edgepack.codec.types import KINDS, Kind, Segment
from edgepack.core.errors import BundleError
from edgepack.core.files import cache_folder
from edgepack.core.locks import exclusive

WORK_SIZE_BYTES = 16 << 20
_ANSWERS = {
    -1: "the coded data are damaged, or belong to another base",
    -2: "they were written by a newer edgepack (unknown coder)",
    -3: "they ask for more memory than a decoder gives (damaged)",
}
_NO_SPACE = -3


_thread = threading.local()


def _workspace() -> ctypes.Array[ctypes.c_char]:
    """This thread's memory for the coders; its content doesn't matter."""
    if not hasattr(_thread, "workspace"):
        _thread.workspace = ctypes.create_string_buffer(WORK_SIZE_BYTES)
    return cast("ctypes.Array[ctypes.c_char]", _thread.workspace)


class _Segment(ctypes.Structure):
    _fields_ = (("size_bytes", ctypes.c_size_t), ("kind", ctypes.c_int))


class Library:
    """The functions of one loaded library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.functions = ctypes.CDLL(str(path))
        pointer, size = ctypes.c_char_p, ctypes.c_size_t
        segment = ctypes.POINTER(_Segment)
        self.functions.epk_sources.restype = ctypes.c_char_p
        self._decode = self.functions.epk_decode_segment
        self._decode.argtypes = (
            ctypes.c_int, pointer, size, pointer, size, segment, pointer, size, ctypes.c_void_p, ctypes.c_void_p, size,
        )  # fmt: skip
        self._decode.restype = ctypes.c_int
        self._encode = self.functions.epk_encode_segment
        self._encode.argtypes = (
            ctypes.c_int, pointer, size, pointer, segment, pointer, size, ctypes.c_void_p, size, ctypes.c_void_p, size,
        )  # fmt: skip
        self._encode.restype = ctypes.c_int64

    @property
    def sources(self) -> str:
        """Digest of the sources that it was compiled from."""
        return str(self.functions.epk_sources().decode())

    def decode(self, coder: int, params: bytes, payload: bytes, segment: Segment, base: bytes | None) -> bytes:
        """The segment's bytes. Raises BundleError for a damaged stream."""
        out = ctypes.create_string_buffer(max(segment.size_bytes, 1))
        answer = self._decode(
            coder, params, len(params), payload, len(payload), _c_segment(segment.size_bytes, segment.kind),
            base, len(base or b""), out, _workspace(), WORK_SIZE_BYTES,
        )  # fmt: skip
        if answer != 0:
            raise BundleError(f"{segment.name or 'a segment'}: {_ANSWERS.get(answer, f'the decoder answers {answer}')}")
        return out.raw[: segment.size_bytes]

    def encode(
        self, coder: int, params: bytes, data: bytes, kind: Kind, base: bytes | None, *, capacity_bytes: int
    ) -> bytes | None:
        """The payload, or None where it is larger than `capacity_bytes`. Raises ValueError for parameters that don't fit the data."""
        payload = ctypes.create_string_buffer(max(capacity_bytes, 1))
        answer = self._encode(
            coder, params, len(params), data, _c_segment(len(data), kind), base, len(base or b""),
            payload, capacity_bytes, _workspace(), WORK_SIZE_BYTES,
        )  # fmt: skip
        if answer == _NO_SPACE:
            return None
        if answer < 0:
            raise ValueError(f"coder {coder} can't code {len(data)} bytes of {kind} with {params.hex()}: {answer}")
        return payload.raw[:answer]


def _c_segment(size_bytes: int, kind: Kind) -> ctypes.Array[_Segment]:
    return (_Segment * 1)(_Segment(size_bytes, KINDS.index(kind)))


@functools.cache
def library() -> Library | None:
    """The compiled codec: the one built with the package, else one compiled into the user's cache; None where no compiler is there.

    None comes with a warning: the reference decoder is then used, about a hundred times slower.
    """
    wanted = sources_digest()
    if BUILT.is_file():
        try:
            if (built := Library(BUILT)).sources == wanted:
                return built
        except (OSError, AttributeError) as exc:  # built on another machine, or by an older edgepack
            warnings.warn(f"{BUILT}: {exc}; it is compiled anew in the cache", RuntimeWarning, stacklevel=2)
    try:
        return Library(_compiled_in_cache(wanted))
    except (CompilerMissing, CompilationFailed, OSError) as exc:
        warnings.warn(
            f"edgepack's codec is not compiled ({exc}): the reference in Python is used, which decodes about 0.1 MB/s; "
            "install a C compiler (Debian: apt-get install gcc), or point CC at one",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _compiled_in_cache(digest: str) -> Path:
    path = cache_folder() / "codec" / f"{digest}-{platform_name()}.so"
    if not path.is_file():
        with exclusive(path.with_suffix(".lock")):
            if not path.is_file():
                for orphan in path.parent.glob(f".{path.name}.*.part"):  # of a killed compilation: we hold the lock
                    orphan.unlink(missing_ok=True)
                compile_library(path)
    return path
