"""What the device's side promises of its folder: one owner at a time, and no file or process that outlives it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edgepack.devices.ssh.private_folder import MARK, kill_all_of, lock, processes_of, remove_base, remove_left_behind


def sleeping_in(folder: Path) -> subprocess.Popen[bytes]:
    """A process of a command in this folder, in a session of its own."""
    return subprocess.Popen(["sleep", "60"], env={MARK: str(folder), "PATH": os.defpath}, start_new_session=True)


def test_a_lock_has_one_holder_until_that_one_closes_it(tmp_path: Path) -> None:
    first = lock(f"{tmp_path}/.lock", wait=False)

    assert first is not None
    assert lock(f"{tmp_path}/.lock", wait=False) is None
    os.close(first)
    assert lock(f"{tmp_path}/.lock", wait=False) is not None


def test_processes_are_found_by_their_folder_and_killed(tmp_path: Path) -> None:
    mine, other = sleeping_in(tmp_path / "mine"), sleeping_in(tmp_path / "other")
    try:
        assert processes_of(str(tmp_path / "mine")) == [mine.pid]

        states = kill_all_of(str(tmp_path / "mine"))

        assert len(states) == 1
        assert mine.wait(timeout=5) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(timeout=5)


def test_only_folders_whose_keeper_is_gone_are_removed(tmp_path: Path) -> None:
    for name in ("at-gone", "at-held", "something-else"):
        (tmp_path / name).mkdir()
    held = lock(f"{tmp_path}/at-held/.lock", wait=False)
    assert held is not None

    assert remove_left_behind(str(tmp_path)) == ["at-gone"]

    assert sorted(path.name for path in tmp_path.iterdir()) == ["at-held", "something-else"]
    os.close(held)


def test_the_folder_of_all_connections_goes_with_the_last_one(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "at-1").mkdir(parents=True)

    remove_base(str(base))
    assert base.is_dir()

    (base / "at-1").rmdir()
    remove_base(str(base))
    assert not base.exists()
