"""The scripts that a device's shell runs, in every kind of shell that a device may have: Debian's, busybox, and Android's own (mksh with toybox)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepack.devices import shell
from edgepack.devices.probe import _SCRIPT, shell_facts
from edgepack.records import DeviceName

WORD = "edgepack-0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A shell with the programs beside it, and nothing else."""

    path: str
    base: Path

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script], executable=f"{self.path.partition(':')[0]}/sh", env={"PATH": self.path},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def start(self, *argv: str, folder: str) -> tuple[subprocess.Popen[str], int]:
        """A watched command, and our end of its input."""
        script = shell.run_watched(
            argv, folder=folder, environment={"ODD": "it's"}, unset=["PYTHONPATH"], word=WORD, limit_s=60
        )
        theirs, ours = os.pipe()
        process = subprocess.Popen(
            ["sh", "-c", script], executable=f"{self.path.partition(':')[0]}/sh", env={"PATH": self.path}, stdin=theirs,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        return process, ours


@pytest.fixture(params=["debian", "busybox", "android"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    folder = tmp_path / "bin"
    folder.mkdir()
    if request.param == "debian":
        return Kind(path="/usr/bin:/bin", base=tmp_path)
    tools = shutil.which("busybox" if request.param == "busybox" else "toybox")
    its_shell = tools if request.param == "busybox" else shutil.which("mksh")
    if tools is None or its_shell is None:
        pytest.skip(f"{request.param}'s shell isn't installed (Debian: apt install busybox-static mksh toybox)")
    listed = subprocess.run(
        [tools, *(["--list"] if "busybox" in tools else [])], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        (folder / name).symlink_to(tools)
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(its_shell)
    return Kind(path=str(folder), base=tmp_path)


@pytest.fixture
def folder(kind: Kind) -> Iterator[str]:
    opened = kind.run(shell.open_folder("edgepack-x", ["/nowhere", str(kind.base)]))
    assert opened.returncode == 0, opened.stderr
    yield opened.stdout.splitlines()[0]
    kind.run(shell.remove_folders([f"{kind.base}/edgepack-x"]))


def alive(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_private_folder_is_made_where_one_can_be_and_older_ones_are_told(kind: Kind) -> None:
    (kind.base / "edgepack-old").mkdir()
    os.utime(kind.base / "edgepack-old", (0, time.time() - 1000))

    lines = kind.run(shell.open_folder("edgepack-new", ["/nowhere", str(kind.base)])).stdout.splitlines()

    assert lines[0] == f"{kind.base}/edgepack-new"
    assert (kind.base / "edgepack-new").stat().st_mode & 0o777 == 0o700
    assert lines[1] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    idle = dict(line.split() for line in lines[2:])
    assert 999 <= int(idle["edgepack-old"]) < 1100
    assert kind.run(shell.open_folder("edgepack-y", ["/nowhere"])).stdout == f"{shell.NO_PLACE}\n"


@pytest.mark.parametrize(
    ("argv", "stdout", "stderr", "code"),
    [
        (("sh", "-c", 'echo "out $ODD"; echo err >&2; exit 7'), "out it's\n", "err\n", 7),
        (("sh", "-c", "kill -9 $$"), "", None, -9),
        (("sh", "-c", "sleep 0.2; exit 200"), "", "", 200),
    ],
)
def test_a_command_tells_how_it_ended(
    kind: Kind, folder: str, argv: tuple[str, ...], stdout: str, stderr: str | None, code: int
) -> None:
    process, ours = kind.start(*argv, folder=folder)
    written, told = process.communicate(timeout=20)
    os.close(ours)

    own, ending = shell.ending_of(told, WORD)
    assert ending is not None
    assert (ending.returncode, written) == (code, stdout)
    assert stderr is None or own == stderr
    assert list(Path(folder).iterdir()) == []


def test_what_keeps_a_command_from_starting_is_told(kind: Kind, folder: str) -> None:
    for argv, place, trouble in ((("nosuch",), folder, shell.NO_PROGRAM), (("ls",), "/nowhere", shell.NO_FOLDER)):
        process, ours = kind.start(*argv, folder=place)
        _, ending = shell.ending_of(process.communicate(timeout=20)[1], WORD)
        os.close(ours)
        assert ending is not None
        assert ending.trouble == trouble


@pytest.mark.parametrize("way", ["input ends", "hangup", "asked"])
def test_a_command_dies_with_all_that_it_started(kind: Kind, folder: str, way: str) -> None:
    process, ours = kind.start("sh", "-c", "sleep 600 & echo $! $$; sleep 600", folder=folder)
    assert process.stdout is not None
    numbers = process.stdout.readline().split()
    assert all(map(alive, numbers))
    until(lambda: (Path(folder) / ".running").is_file())
    time.sleep(0.2)  # both watchers are there

    if way == "input ends":
        os.close(ours)
    elif way == "hangup":
        os.kill(process.pid, signal.SIGHUP)
    else:
        kind.run(shell.kill_running(folder))

    process.communicate(timeout=20)
    until(lambda: not any(map(alive, numbers)))
    if way != "input ends":
        os.close(ours)


def test_folders_are_removed_with_what_runs_in_them(kind: Kind, folder: str) -> None:
    process, ours = kind.start("sh", "-c", "echo $$; sleep 600", folder=folder)
    assert process.stdout is not None
    number = process.stdout.readline().strip()
    until(lambda: (Path(folder) / ".running").is_file())

    kind.run(shell.remove_folders([folder]))

    until(lambda: not alive(number))
    assert not Path(folder).exists()
    process.communicate(timeout=20)
    os.close(ours)


def test_a_link_that_broke_leaves_no_ending() -> None:
    assert shell.ending_of("some words\n", WORD) == ("some words\n", None)
    assert shell.ending_of(f"err\n{WORD} ", WORD) == ("err\n", None)


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        ("137 3 4 100000", ("the device ran out of memory and its kernel (OOM killer) ended the process",)),
        ("137 3 3 100000", ()),
        ("1 0 0 10", ("the device's disk is full; free some space there",)),
        ("0 0 0 10", ()),
        ("1 0 0 unknown", ()),
    ],
)
def test_a_bad_end_is_explained_by_the_devices_state(line: str, notes: tuple[str, ...]) -> None:
    _, ending = shell.ending_of(f"{WORD} {line}\n", WORD)

    assert ending is not None
    assert ending.notes == notes


def test_any_shell_describes_this_machine(kind: Kind) -> None:
    facts = shell_facts(kind.run(_SCRIPT).stdout, DeviceName(transport="local", name="x"))

    assert facts.machine == os.uname().machine
    assert facts.memory_bytes == int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert sum(facts.cores.values()) >= 1
