"""What names a set of samples: the provider's options and the digest of its files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from edgepack.core.digest import digest_of, sha256_file
from edgepack.core.errors import DataError
from edgepack.core.files import write_json
from edgepack.data.sections import named, open_provider, options_of, resolve_section
from edgepack.recipe import DataSection

# A file that changed this recently may change again without a new time stamp: FAT's are two seconds apart.
_SETTLED_AFTER_NS = 2_000_000_000


class DigestCache:
    """The digests of files seen before, kept in `folder`/digests.json; a damaged or old file there counts as empty.

    A digest is reused while a file's size and modification time are those it was computed for.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "digests.json"
        self._known = _read_known(self._file)
        self._changed = False

    def sha256(self, path: Path) -> str:
        """The digest of a file's bytes, read only when the file is new or changed. Raises OSError."""
        status = path.stat()
        key = str(path.resolve())
        entry = self._known.get(key)
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == [status.st_size, status.st_mtime_ns]:
            return str(entry[2])
        digest = sha256_file(path)
        if time.time_ns() - status.st_mtime_ns > _SETTLED_AFTER_NS:
            self._known[key] = [status.st_size, status.st_mtime_ns, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what is new, atomically; of two processes that write at once, the later one stays."""
        if self._changed:
            write_json(self._file, self._known)
            self._changed = False


def fingerprint(
    section: DataSection | str, *, folder: Path, cache: DigestCache | None = None, role: str | None = None
) -> dict[str, Any]:
    """What the samples are determined by, as JSON can hold it: `provider`, `options` with their defaults, `count`,
    `seed`, `files` (how many) and `sha256` of those files.

    Reads the files' bytes but loads no sample. Raises DataError when `section.sha256` says otherwise.
    """
    with named(role):
        table = resolve_section(section, folder=folder)
        provider = open_provider(table, folder=folder)
        files = provider.files()
        return {
            "provider": table.provider,
            "options": options_of(provider),
            "count": table.count,
            "seed": table.seed,
            "files": len(files),
            "sha256": checked_digest(table, files, cache=cache),
        }


def checked_digest(section: DataSection, files: tuple[Path, ...], *, cache: DigestCache | None = None) -> str:
    """One digest over the files' contents in their order and their grouping into folders, but no names or places,
    so that it is the same on every machine. Raises DataError when it is not the one that the table expects."""
    groups: dict[Path, int] = {}
    try:
        contents = [
            [groups.setdefault(file.parent, len(groups)), cache.sha256(file) if cache else sha256_file(file)]
            for file in files
        ]
    except OSError as exc:
        raise DataError(f"{exc.filename}: can't be read ({exc.strerror}); check the file") from exc
    if cache is not None:
        cache.save()
    digest = digest_of(contents)
    if section.sha256 is not None and section.sha256.lower() != digest:
        raise DataError(
            f"the files of provider '{section.provider}' have sha256 {digest}, the recipe expects {section.sha256}; "
            "restore the files, or put the new checksum into the recipe if the change is meant"
        )
    return digest


def _read_known(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
