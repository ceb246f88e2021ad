"""Finished stages in `.edgepack/`, each in a folder named by the digest of everything it depends on.

A stage's folder appears by one rename, when it is whole; it lists its files with their digests, which are checked when it is used
again. A lock per key lets two builds that need the same stage share one run of it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem
from edgepack.core.files import folder_in_the_making, write_json
from edgepack.core.locks import exclusive
from edgepack.core.types import Progress

FACTS = "stage.json"
_KEY_CHARACTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished stage: where it lies, how large it is, how long it took, when it was last used (seconds since the epoch)."""

    stage: str
    key: str
    folder: Path
    size_bytes: int
    seconds: float
    last_used: float


class StageCache:
    """The stages under one work folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, stage: str, key: str) -> Path | None:
        """The folder of a finished stage, or None. A folder whose files changed since is removed and counts as None."""
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder / FACTS)
        return folder

    def facts(self, folder: Path) -> dict[str, Any]:
        """What a stage recorded about itself."""
        content: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        recorded: dict[str, Any] = content["facts"]
        return recorded

    def run(
        self, stage: str, key: str, work: Callable[[Path], dict[str, Any]], *, progress: Progress, spent_s: float = 0.0
    ) -> Path:
        """The folder of a stage: found, or made by `work(scratch)`, which fills a scratch folder and answers with facts to record.

        `spent_s` is what the stage took before `work`.
        """
        if (found := self.find(stage, key)) is not None:
            return found
        with self.locked(stage, key, progress=progress):
            if (found := self.find(stage, key)) is not None:
                return found
            started = time.monotonic()
            with folder_in_the_making(self._folder(stage, key)) as scratch:
                facts = work(scratch)
                files = {
                    str(file.relative_to(scratch)): sha256_file(file)
                    for file in sorted(scratch.rglob("*"))
                    if file.is_file()
                }
                write_json(
                    scratch / FACTS,
                    {
                        "stage": stage,
                        "key": key,
                        "facts": facts,
                        "files": files,
                        "seconds": round(time.monotonic() - started + spent_s, 3),
                    },
                )
            shutil.rmtree(self.workspace(key), ignore_errors=True)
        return self._folder(stage, key)

    @contextmanager
    def locked(self, stage: str, key: str, *, progress: Progress) -> Iterator[None]:
        """Hold the lock of a key; a second build waits here for the first and then uses its result."""
        lock = self.root / "locks" / f"{key[:_KEY_CHARACTERS]}.lock"
        self._writable()
        with exclusive(
            lock, waiting=lambda pid: progress.note(f"{stage}: process {pid} is doing this; waiting for its result")
        ):
            yield

    def workspace(self, key: str) -> Path:
        """A folder for what an unfinished stage keeps over a kill (checkpoints); removed when the stage is finished."""
        return self.root / "progress" / key[:_KEY_CHARACTERS]

    def entries(self) -> list[Entry]:
        """Every finished stage, last used first."""
        found = []
        for file in (self.root / "stages").glob(f"*/{FACTS}"):
            size_bytes = sum(item.stat().st_size for item in file.parent.rglob("*") if item.is_file())
            try:
                facts = json.loads(file.read_text(encoding="utf-8"))
                entry = Entry(
                    stage=facts["stage"],
                    key=facts["key"],
                    folder=file.parent,
                    size_bytes=size_bytes,
                    seconds=facts["seconds"],
                    last_used=file.stat().st_mtime,
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue  # damaged: `find` removes it when it is needed
            found.append(entry)
        return sorted(found, key=lambda entry: -entry.last_used)

    def prune(self, *, older_than_days: float) -> tuple[int, int]:
        """Remove stages and checkpoints unused for that long, and half-made folders; the latter two only while no build runs here.

        Answers (stages removed, bytes freed).
        """
        removed = freed_bytes = 0
        limit = time.time() - older_than_days * 86_400
        for entry in self.entries():
            if entry.last_used <= limit:
                removed, freed_bytes = removed + 1, freed_bytes + entry.size_bytes
                shutil.rmtree(entry.folder, ignore_errors=True)
        if not self._build_is_running():
            halves = list((self.root / "stages").glob(".part-*"))
            checkpoints = [item for item in (self.root / "progress").glob("*") if item.stat().st_mtime <= limit]
            for leftover in [*halves, *checkpoints]:
                freed_bytes += sum(item.stat().st_size for item in leftover.rglob("*") if item.is_file())
                shutil.rmtree(leftover, ignore_errors=True)
        return removed, freed_bytes

    def _build_is_running(self) -> bool:
        """Whether a process holds one of the locks: then nothing half-finished may be taken away."""
        import fcntl

        for lock in (self.root / "locks").glob("*.lock"):
            with lock.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "stages" / f"{stage}-{key[:_KEY_CHARACTERS]}"

    def _writable(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            marker = self.root / ".gitignore"
            if not marker.exists():
                marker.write_text("*\n")
        except OSError as exc:
            raise EnvironmentProblem(
                f"{self.root}: can't be written ({exc.strerror}); choose another place with --work-dir"
            ) from exc


def _is_whole(folder: Path) -> bool:
    """Whether every file of a stage is there with the bytes that were written."""
    try:
        files = json.loads((folder / FACTS).read_text(encoding="utf-8"))["files"]
        return all(sha256_file(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
