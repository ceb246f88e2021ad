"""Files and folders that are whole or not there: written beside their final name, then moved."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from edgepack.core.errors import EnvironmentProblem


def cache_folder() -> Path:
    """Where things that belong to this machine rather than to a project are kept: $EDGEPACK_CACHE_DIR, else the XDG cache."""
    if own := os.environ.get("EDGEPACK_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepack"


def config_folder() -> Path:
    """Where the user's own settings are: $XDG_CONFIG_HOME/edgepack, by default ~/.config/edgepack."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgepack"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old bytes or the new ones, never a part.

    Raises EnvironmentProblem when the disk is full or the folder can't be written.
    """
    with stream_atomic(path) as file:
        file.write(data)


@contextmanager
def stream_atomic(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file's when the block ends well; else the file stays as it was. Raises as `write_atomic` does."""
    with out_of_space_is_clear(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON with sorted keys, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


@contextmanager
def folder_in_the_making(final: Path) -> Iterator[Path]:
    """A scratch folder that becomes `final` when the block ends well, and disappears when it doesn't.

    If `final` appears meanwhile (another process was first), that one is kept. A kill leaves the scratch
    folder, named '.part-…', which nothing reads and `edgepack cache prune` removes.
    """
    with out_of_space_is_clear(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".part-{final.name[:16]}-"))
    try:
        with out_of_space_is_clear(final):
            yield scratch
            try:
                os.replace(scratch, final)
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def out_of_space_is_clear(path: Path) -> Iterator[None]:
    """Turn a full disk or a folder that can't be written into one clear message."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentProblem(
                f"{path.parent}: no space left on the disk; free some ('edgepack cache prune' helps), "
                "then run the same command again: finished stages are kept"
            ) from exc
        if exc.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise EnvironmentProblem(f"{path}: can't be written ({exc.strerror}); check the folder's owner") from exc
        raise


def require_writable(folder: Path) -> None:
    """Raise EnvironmentProblem when `folder` is no folder, or can't be made or written. Writes nothing."""
    place = _existing_part(folder)
    if not place.is_dir():
        raise EnvironmentProblem(f"{place}: is a file, a folder is needed; choose another place with --work-dir")
    if not os.access(place, os.W_OK | os.X_OK):
        raise EnvironmentProblem(f"{place}: can't be written; check its owner, or choose another place with --work-dir")


def require_free_space(folder: Path, *, needed_bytes: int, purpose: str) -> None:
    """Raise EnvironmentProblem when the disk of `folder` has less than `needed_bytes` free."""
    free_bytes = shutil.disk_usage(_existing_part(folder)).free
    if free_bytes < needed_bytes:
        raise EnvironmentProblem(
            f"{folder}: {purpose} needs about {needed_bytes / 1e6:.0f} MB of free disk space and "
            f"{free_bytes / 1e6:.0f} MB are left; free some, or choose another place with --work-dir"
        )


def _existing_part(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
