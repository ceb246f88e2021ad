from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.files import (
    cache_folder,
    folder_in_the_making,
    out_of_space_is_clear,
    require_free_space,
    require_writable,
    write_atomic,
    write_json,
)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"

    write_atomic(file, b"one")
    write_atomic(file, b"two")

    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomic(file, b"old")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="no space left on the disk"):
        write_atomic(file, b"new")

    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5]})

    assert (tmp_path / "a.json").read_text().index('"a"') < (tmp_path / "a.json").read_text().index('"b"')
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))


def test_a_folder_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), folder_in_the_making(tmp_path / "x") as scratch:
        (scratch / "file").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

    with folder_in_the_making(tmp_path / "x") as scratch:
        (scratch / "file").touch()
        assert not (tmp_path / "x").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_of_two_folders_the_first_is_kept(tmp_path: Path) -> None:
    with folder_in_the_making(tmp_path / "x") as second:
        (second / "second").touch()
        with folder_in_the_making(tmp_path / "x") as first:
            (first / "first").touch()

    assert [path.name for path in (tmp_path / "x").iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_an_environment_problem(tmp_path: Path, number: int) -> None:
    with pytest.raises(EnvironmentProblem), out_of_space_is_clear(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), out_of_space_is_clear(tmp_path / "x"):
        (tmp_path / "nothing").read_bytes()


def test_space_is_asked_of_the_disk_of_a_folder_to_come(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet", needed_bytes=1, purpose="a test")

    with pytest.raises(EnvironmentProblem, match=r"a test needs about 1000000000000 MB .* --work-dir"):
        require_free_space(tmp_path / "not" / "yet", needed_bytes=10**18, purpose="a test")
    assert not (tmp_path / "not").exists()


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    require_writable(tmp_path / "a" / "b")

    with pytest.raises(EnvironmentProblem, match="is a file, a folder is needed"):
        require_writable(tmp_path / "file" / "b")


def test_the_cache_folder_is_the_users_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"

    monkeypatch.delenv("EDGEPACK_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edgepack"
