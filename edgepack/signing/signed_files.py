"""Files that a signature of OpenSSF Model Signing covers: a file, a folder, or a bundle as the folder that it unpacks to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from edgepack.bundle import Bundle, read_bundle
from edgepack.core.digest import sha256_bytes, sha256_file
from edgepack.core.errors import BundleError, SignatureError, UnsupportedError, UsageError
from edgepack.signing.oms import HASHES, WHOLE_FILE, OmsStatement, checked_oms
from edgepack.signing.trust import Trust, standing_of

GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")  # model_signing leaves them out by default
_SHOWN = 5


def sha256_of_contents(bundle: Bundle) -> dict[str, str]:
    """SHA-256 of every file that a bundle unpacks to, by its path, as its manifest says."""
    listed = {file.path: file.sha256 for file in bundle.manifest.files}
    return {name: listed[name] if name in listed else sha256_bytes(bundle.read(name)) for name in bundle.names}


def sha256_of(path: Path, *, ignored: Iterable[str] = GIT_PATHS) -> dict[str, str]:
    """SHA-256 of every file of a folder by its path, or of a single file. Raises UsageError for a link or what is no file."""
    return digests_of(path, "sha256", ignored=ignored)


def digests_of(path: Path, hash_type: str, *, ignored: Iterable[str]) -> dict[str, str]:
    """As `sha256_of`, by another hash."""
    if path.is_file():
        return {WHOLE_FILE: _digest(path, hash_type)}
    if not path.is_dir():
        raise UsageError(f"{path}: neither a file nor a folder")
    left_out = [path / one for one in ignored]
    found = {}
    for each in sorted(path.rglob("*")):
        if each.is_symlink() or not (each.is_file() or each.is_dir()):
            raise UsageError(f"{each}: a link or something that is no file can't be signed; replace it by a file")
        if each.is_file() and not any(each.is_relative_to(one) for one in left_out):
            found[each.relative_to(path).as_posix()] = _digest(each, hash_type)
    return found


def check_signature_file(path: Path, signature: Path, trust: Trust) -> str:
    """The name of the trusted key that made a signature of OpenSSF Model Signing over a file, a folder or a bundle.

    Raises SignatureError for a signature by another key or by one that no longer counts, and for content that is not what was signed.
    """
    usable = {name: key for name, key in trust.keys.items() if standing_of(key) == "trusted"}
    try:
        data = signature.read_bytes()
    except OSError as exc:
        raise UsageError(f"{signature}: this signature can't be read: {exc.strerror}") from exc
    try:
        statement = checked_oms(data, [key.key for key in usable.values()])
    except SignatureError as exc:
        raise SignatureError(f"{signature}: {exc}") from exc
    except UnsupportedError as exc:
        raise UnsupportedError(f"{signature}: {exc}") from exc
    check_covered(statement, path)
    return next(name for name, key in usable.items() if key.key == statement.key)


def check_covered(statement: OmsStatement, path: Path) -> None:
    """Raise SignatureError unless a file, a folder or a bundle is exactly what the statement lists.

    A bundle is compared as a file where a single file was signed, else as the folder that it unpacks to: every entry must then be listed.
    """
    if path.is_file() and set(statement.digests) != {WHOLE_FILE}:
        actual = _contents(path, statement.hash_type)
    else:
        actual = digests_of(path, statement.hash_type, ignored=statement.ignored)
    _compare(statement.digests, actual, where=path)


def _contents(path: Path, hash_type: str) -> dict[str, str]:
    try:
        bundle = read_bundle(path)
        bundle.verify()
    except BundleError as exc:
        raise SignatureError(
            f"{exc}\n{path}: a folder was signed, and this file is no bundle that unpacks to one"
        ) from exc
    if hash_type == "sha256":
        return sha256_of_contents(bundle)
    return {name: hashlib.new(HASHES[hash_type], bundle.read(name)).hexdigest() for name in bundle.names}


def _compare(signed: Mapping[str, str], actual: Mapping[str, str], *, where: Path) -> None:
    by_path = {str(PurePosixPath(name)): digest for name, digest in signed.items()}
    wrong = {
        "changed": [name for name in by_path.keys() & actual.keys() if by_path[name] != actual[name]],
        "missing": list(by_path.keys() - actual.keys()),
        "not signed": list(actual.keys() - by_path.keys()),
    }
    lines = [f"{what}: {_few(names)}" for what, names in wrong.items() if names]
    if lines:
        raise SignatureError(f"{where}: not what was signed; {'; '.join(lines)}")


def _few(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _digest(path: Path, hash_type: str) -> str:
    if hash_type == "sha256":
        return sha256_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, HASHES[hash_type]).hexdigest()
