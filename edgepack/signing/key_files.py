"""Keys on disk: `NAME.pem`, which only its owner can read, and `NAME.pub.pem`, which is for everybody."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from edgepack.core.errors import UsageError
from edgepack.core.files import out_of_space_is_clear
from edgepack.signing.keys import PrivateKey, PublicKey

PASSWORD_VARIABLE = "EDGEPACK_KEY_PASSWORD"
_KEY_BYTES_MAX = 65536


def key_paths(name: Path) -> tuple[Path, Path]:
    """Where the private and the public part of a key are; `name` is with or without '.pem'."""
    stem = name.with_name(name.name.removesuffix(".pem"))
    return stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.pub.pem")


def write_key(name: Path, key: PrivateKey, *, password: bytes | None = None) -> tuple[Path, Path]:
    """Write both parts of a key; their paths. Raises UsageError where one of the files exists: a key is never overwritten."""
    private, public = key_paths(name)
    require_new((private, public))
    _write_new(private, key.pem(password=password), mode=0o600)
    _write_new(public, key.public.pem(), mode=0o644)
    return private, public


def require_new(paths: Iterable[Path]) -> None:
    """Raise UsageError where one of the files exists."""
    for path in paths:
        if path.exists():
            raise UsageError(f"{path}: exists already, and a key is never overwritten; choose another name")


def read_private_key(path: Path, *, password: Callable[[], bytes] | None = None) -> PrivateKey:
    """The private key of a file. Raises UsageError, or UnsupportedError for another kind of key."""
    return PrivateKey.from_pem(_read(path), where=str(path), password=password)


def read_public_key(path: Path) -> PublicKey:
    """The public key of a file. Raises UsageError, also for a private key, or UnsupportedError for another kind of key."""
    return PublicKey.from_pem(_read(path), where=str(path))


def is_private(path: Path) -> bool:
    """Whether a file holds a private key. Raises UsageError where it can't be read."""
    return b"PRIVATE KEY" in _read(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_KEY_BYTES_MAX + 1)
    except OSError as exc:
        raise UsageError(f"{path}: this key can't be read: {exc.strerror}; make one: edgepack key new") from exc
    if len(data) > _KEY_BYTES_MAX:
        raise UsageError(f"{path}: too large for a key; name a .pem file")
    return data


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Whole or not at all, and never in the place of another file: a link, unlike a rename, fails where the name is taken."""
    with out_of_space_is_clear(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.link(name, path)
        except FileExistsError as exc:
            raise UsageError(f"{path}: exists already, and a key is never overwritten; choose another name") from exc
        finally:
            Path(name).unlink(missing_ok=True)
