"""The stage cache: whole or not there, checked when used again, shared, pruned."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
from small_project import Recorder

from edgepack.core.types import Silent
from edgepack.store.cache import StageCache

KEY = "a" * 64


def work(scratch: Path) -> dict[str, Any]:
    (scratch / "deep").mkdir()
    (scratch / "deep" / "data.bin").write_bytes(b"result")
    return {"answer": 42}


def never(_scratch: Path) -> dict[str, Any]:
    raise AssertionError("this stage was finished")


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "work")


def test_a_stage_is_made_once_and_found_again(cache: StageCache) -> None:
    made = cache.run("load", KEY, work, progress=Silent())

    assert cache.run("load", KEY, never, progress=Silent()) == made
    assert (made / "deep" / "data.bin").read_bytes() == b"result"
    assert cache.facts(made) == {"answer": 42}
    assert cache.find("load", "b" * 64) is None
    assert cache.find("export", KEY) is None


def test_a_stage_that_fails_leaves_nothing(cache: StageCache) -> None:
    def fails(scratch: Path) -> dict[str, Any]:
        work(scratch)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.run("load", KEY, fails, progress=Silent())

    assert list((cache.root / "stages").iterdir()) == []
    assert cache.run("load", KEY, work, progress=Silent()).is_dir()


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "record", "no record"])
def test_a_stage_that_was_damaged_counts_as_missing(cache: StageCache, damage: str) -> None:
    folder = cache.run("load", KEY, work, progress=Silent())
    data = folder / "deep" / "data.bin"
    {
        "truncate": lambda: os.truncate(data, 3),
        "change": lambda: data.write_bytes(b"resulT"),
        "remove": data.unlink,
        "record": lambda: (folder / "stage.json").write_text("{"),
        "no record": (folder / "stage.json").unlink,
    }[damage]()

    assert cache.find("load", KEY) is None
    made = cache.run("load", KEY, work, progress=Silent())
    assert (made / "deep" / "data.bin").read_bytes() == b"result"
    assert (made / "stage.json").is_file()


def test_a_workspace_survives_a_failure_and_goes_when_the_stage_is_finished(cache: StageCache) -> None:
    def fails(_scratch: Path) -> dict[str, Any]:
        cache.workspace(KEY).mkdir(parents=True)
        (cache.workspace(KEY) / "checkpoint").touch()
        raise ValueError

    with pytest.raises(ValueError):  # the one above
        cache.run("load", KEY, fails, progress=Silent())
    assert (cache.workspace(KEY) / "checkpoint").exists()

    cache.run("load", KEY, work, progress=Silent())

    assert not cache.workspace(KEY).exists()


def test_entries_tell_stage_size_and_last_use(cache: StageCache) -> None:
    cache.run("load", KEY, work, progress=Silent())
    older = cache.run("export", "b" * 64, work, progress=Silent())
    os.utime(older / "stage.json", (1, 1))

    first, second = cache.entries()

    assert (first.stage, second.stage) == ("load", "export")
    assert first.size_bytes > 6
    assert abs(first.last_used - time.time()) < 60
    assert second.last_used == 1


def test_finding_a_stage_counts_as_using_it(cache: StageCache) -> None:
    folder = cache.run("load", KEY, work, progress=Silent())
    os.utime(folder / "stage.json", (1, 1))

    cache.find("load", KEY)

    assert cache.entries()[0].last_used > 1_000_000


def test_pruning_removes_what_is_old_and_what_was_left_behind(cache: StageCache) -> None:
    old = cache.run("load", KEY, work, progress=Silent())
    new = cache.run("export", "b" * 64, work, progress=Silent())
    os.utime(old / "stage.json", (1, 1))
    leftover = cache.root / "stages" / ".part-x"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"12345")

    removed, freed_bytes = cache.prune(older_than_days=1)

    assert removed == 1
    assert freed_bytes > 5
    assert (old.exists(), new.exists(), leftover.exists()) == (False, True, False)


def test_pruning_leaves_the_work_of_a_running_build_alone(cache: StageCache) -> None:
    with cache.locked("load", KEY, progress=Silent()):
        leftover = cache.root / "stages" / ".part-x"
        leftover.mkdir(parents=True)
        cache.prune(older_than_days=1)
        assert leftover.exists()

    cache.prune(older_than_days=1)
    assert not leftover.exists()


def _count(root: Path, log: Path) -> None:
    def slow(scratch: Path) -> dict[str, Any]:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.5)
        return work(scratch)

    StageCache(root).run("load", KEY, slow, progress=Recorder())


def test_two_processes_make_a_stage_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count, args=(tmp_path / "work", tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "x"


def test_the_work_folder_keeps_itself_out_of_git(cache: StageCache) -> None:
    cache.run("load", KEY, work, progress=Silent())

    assert (cache.root / ".gitignore").read_text() == "*\n"
