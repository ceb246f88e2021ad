"""Errors, registry, digests, locks, sections and chatter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from edgepack.core import errors
from edgepack.core.chatter import chatter_to
from edgepack.core.digest import canonical_json, digest_of, digest_of_files, sha256_bytes, sha256_file
from edgepack.core.errors import EdgepackError, EnvironmentProblem, RecipeError, did_you_mean
from edgepack.core.locks import exclusive
from edgepack.core.registry import Registry
from edgepack.core.section import Section, validate


def kinds() -> list[type[EdgepackError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EdgepackError)]


def test_every_error_has_its_own_exit_code_and_the_table_tells_it() -> None:
    codes = {kind.__name__: kind.exit_code for kind in kinds()}

    assert len(set(codes.values())) == len(codes)
    for name, code in codes.items():
        assert any(name in line and f" {code} " in line for line in (errors.__doc__ or "").splitlines()), name


def test_the_nearest_name_is_suggested_else_all_are_listed() -> None:
    assert did_you_mean("arm46", ["arm64", "intel"]) == " (did you mean 'arm64'?)"
    assert did_you_mean("zzz", ["b", "a"]) == " (known: a, b)"
    assert did_you_mean("zzz", []) == ""


def test_a_registry_names_what_is_missing() -> None:
    registry: Registry[Any] = Registry("thing", {"path": "pathlib:Path", "absent": "no_such_package_here:X"})

    assert registry.load("path") is Path
    assert "path" in registry and "nothing" not in registry
    assert list(registry) == ["absent", "path"]
    with pytest.raises(RecipeError, match=r"unknown thing 'pth' \(did you mean 'path'\?\)"):
        registry.load("pth")
    with pytest.raises(
        EnvironmentProblem, match=r"thing 'absent' needs the package 'no_such_package_here'.*pip install"
    ):
        registry.load("absent")


def test_equal_values_have_equal_digests_however_they_are_written() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
    assert canonical_json({"ä": (1, 2)}) == '{"ä":[1,2]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(float("nan"))


def test_digests_of_files_follow_names_and_contents_but_not_places(tmp_path: Path) -> None:
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "a").write_bytes(b"abc")
    first = digest_of_files([tmp_path / "one" / "a"], root=tmp_path / "one")

    assert sha256_file(tmp_path / "one" / "a") == sha256_bytes(b"abc")
    assert first == digest_of_files([tmp_path / "two" / "a"], root=tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "b")
    assert first != digest_of_files([tmp_path / "two" / "b"], root=tmp_path / "two")


_HOLD = """
import sys, time
from pathlib import Path
from edgepack.core.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_waits_tells_who_holds_it_and_ends_with_a_kill(tmp_path: Path) -> None:
    lock = tmp_path / "a" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    told: list[str] = []

    def waiting(pid: str) -> None:
        told.append(pid)
        holder.send_signal(signal.SIGKILL)

    started = time.monotonic()
    with exclusive(lock, waiting=waiting):
        assert lock.read_text() == f"{os.getpid()}\n"
    holder.wait()

    assert told == [str(holder.pid)]
    assert time.monotonic() - started < 30


class Inner(Section):
    depth: int = Field(default=1, gt=0)


class Outer(Section):
    name: str
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x", "inner": {"dept": 1}}, "file: inner: unknown key 'dept' (did you mean 'depth'?)"),
        ({"name": "x", "iner": 1}, "file: top level: unknown key 'iner' (did you mean 'inner'?)"),
        ({}, "file: name: this key is required and missing"),
        ({"name": "x", "inner": {"depth": 0}}, "file: inner.depth: Input should be greater than 0, got 0"),
    ],
)
def test_a_wrong_section_is_told_with_its_place(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        validate(Outer, content, where="file")

    assert str(caught.value) == message


def test_chatter_of_native_code_goes_to_the_log_and_the_screen_is_given_back(tmp_path: Path, capfd: Any) -> None:
    with chatter_to(tmp_path / "log" / "file"):
        os.write(1, b"from C\n")
        subprocess.run(["echo", "from a process"], check=True)
    os.write(1, b"after\n")

    assert (tmp_path / "log" / "file").read_text().splitlines() == ["from C", "from a process"]
    assert capfd.readouterr().out == "after\n"


def test_the_screen_is_given_back_after_an_error_too(tmp_path: Path, capfd: Any) -> None:
    with pytest.raises(KeyError), chatter_to(tmp_path / "log"):
        raise KeyError
    os.write(2, b"after\n")

    assert capfd.readouterr().err == "after\n"
