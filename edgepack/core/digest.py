"""Content digests: what a stage's result is named by, and what a bundle's files are checked against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as 64 hex digits (FIPS 180-4)."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError where the file can't be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces, no NaN. Raises TypeError for a value JSON can't hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """The digest of a JSON-like value; equal values have equal digests."""
    return sha256_bytes(canonical_json(value).encode())


def digest_of_files(files: Iterable[Path], *, root: Path) -> str:
    """One digest over files' relative names and contents, in sorted order."""
    return digest_of({str(file.relative_to(root)): sha256_file(file) for file in sorted(files)})
