from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, UnsupportedError
from edgepack.devices import provision
from edgepack.devices.local import LocalTransport
from edgepack.devices.protocol import CompletedRun
from edgepack.devices.provision import ON_DEVICE, provisioned
from edgepack.devices.provision.wheels import DevicePython, name_of, requirements_of, wheels_for

NAMES = ("alpha", "beta", "gamma")


def board(**changes: object) -> DevicePython:
    usual = {"version": (3, 11, 2), "implementation": "cpython", "machine": "aarch64", "bits": 64, "glibc": (2, 36)}
    return DevicePython.model_validate({**usual, "musl": False, "packages": "/p", "free_bytes": 10**9, **changes})


def wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", f"NAME = {name!r}\n")
        archive.writestr(f"{name}-1.0.data/purelib/{name}_more.py", "MORE = 1\n")
        archive.writestr(f"{name}-1.0.data/scripts/{name}", "#!python\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


class CountingDevice(LocalTransport):
    """This machine, counting what is copied to it; it is lost at a chosen copy."""

    def __init__(self, home: Path, *, lost_at: int | None = None) -> None:
        super().__init__()
        self.home, self.lost_at, self.copied = home, lost_at, list[str]()

    def put(self, local: Path, *, companions: Sequence[Path] = ()) -> str:
        if len(self.copied) == self.lost_at:
            raise ConnectionError
        self.copied.append(local.name)
        return super().put(local, companions=companions)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CompletedRun:
        added = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache"), **(environment or {})}
        return super().run(argv, timeout_s=timeout_s, environment=added)


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """pip's only source is a folder of small wheels; the cache is the test's own."""
    (tmp_path / "index").mkdir()
    for name in NAMES:
        wheel(tmp_path / "index", name)
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path / "host"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    yield tmp_path / "index"


def test_packages_are_brought_found_and_not_brought_again(tmp_path: Path) -> None:
    with CountingDevice(tmp_path / "board") as device:
        with_them = provisioned(device, requirements=NAMES)
        code = "import alpha, beta_more, gamma; print(gamma.NAME, gamma.__file__)"
        done = with_them.run(["python", "-c", code], timeout_s=60)
        first = len(device.copied)
        again = provisioned(device, requirements=NAMES)

    assert done.stdout.startswith("gamma " + str(tmp_path / "board"))
    assert (first, len(device.copied)) == (4, 5)  # the script, and three wheels once
    assert again.packages == with_them.packages
    assert not list(Path(with_them.packages).rglob("*.part"))


def test_packages_that_are_brought_one_after_the_other_are_all_found(tmp_path: Path) -> None:
    with CountingDevice(tmp_path / "board") as device:
        both = provisioned(provisioned(device, requirements=["alpha"]), requirements=["beta"])
        done = both.run(["python", "-c", "import alpha, beta; print('both')"], timeout_s=60)

    assert done.stdout == "both\n"


def test_an_interrupted_transfer_is_taken_up_where_it_ended(tmp_path: Path) -> None:
    with CountingDevice(tmp_path / "board", lost_at=3) as device, pytest.raises(ConnectionError):
        provisioned(device, requirements=NAMES)

    with CountingDevice(tmp_path / "board") as device:
        found = provisioned(device, requirements=NAMES)

    assert device.copied[1:] == ["gamma-1.0-py3-none-any.whl"]
    assert {path.name for path in Path(found.packages).iterdir()} >= {"alpha", "beta", "gamma", "alpha_more.py"}


def test_a_package_without_a_wheel_for_the_device_is_told(index: Path) -> None:
    (index / "delta-1.0-cp311-cp311-manylinux2014_x86_64.whl").write_bytes(wheel(index, "delta").read_bytes())
    (index / "delta-1.0-py3-none-any.whl").unlink()

    with pytest.raises(
        EnvironmentProblem, match=r"no wheel of delta for Python 3\.11 on aarch64 with glibc 2\.36: .*devices\.toml"
    ):
        wheels_for(board(), ["delta"])


def test_an_index_that_can_not_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/no/such/folder")

    with pytest.raises(EnvironmentProblem, match="alpha"):
        wheels_for(board(), ["alpha"])


def test_a_failed_download_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem):
        wheels_for(board(), ["nothing-like-this"])

    assert list((tmp_path / "host" / "wheels").iterdir()) == []


def test_no_room_on_the_device_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provision, "_ROOM", 1e15)

    with (
        CountingDevice(tmp_path / "board") as device,
        pytest.raises(EnvironmentProblem, match="not enough disk space on the device"),
    ):
        provisioned(device, requirements=["alpha"])


def test_a_runtime_without_wheels_is_told() -> None:
    with pytest.raises(UnsupportedError, match=r"'litrt' \(did you mean 'litert'\?\)"):
        requirements_of("litrt")


def test_the_version_brought_is_the_one_installed_here() -> None:
    from importlib.metadata import version

    assert requirements_of("litert") == (f"ai-edge-litert=={version('ai-edge-litert')}",)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_36_aarch64"}),
        ({"bits": 32}, {"manylinux2014_armv7l", "manylinux_2_36_armv7l"}),
        ({"glibc": None, "musl": True}, {"musllinux_1_1_aarch64", "musllinux_1_2_aarch64"}),
        ({"glibc": (2, 12)}, set()),
        ({"glibc": None}, set()),
    ],
)
def test_the_platform_tags_are_those_of_the_device(changes: dict[str, object], expected: set[str]) -> None:
    found = set(board(**changes).platforms)

    assert expected <= found
    assert bool(found) == bool(expected)
    assert "manylinux_2_37_aarch64" not in found


@pytest.mark.parametrize("changes", [{"implementation": "pypy"}, {"glibc": None}])
def test_a_python_that_no_wheel_fits_is_told(changes: dict[str, object]) -> None:
    with pytest.raises(EnvironmentProblem, match=r"there are no wheels for Python 3\.11"):
        wheels_for(board(**changes), ["alpha"])


def unpacked(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, str(ON_DEVICE), *words], capture_output=True, text=True, timeout=60, check=False
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_wheel_that_did_not_arrive_whole_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "alpha")

    assert "did not arrive whole" in str(unpacked("unpack", str(tmp_path / "x"), str(path), "0" * 64)["error"])


@pytest.mark.parametrize("name", ["../../outside.py", "/outside.py"])
def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "")

    assert "leads out" in str(unpacked("unpack", str(tmp_path / "a" / "x"), str(path), sha256_file(path))["error"])


def test_the_same_wheels_have_the_same_name(tmp_path: Path) -> None:
    one, other = wheel(tmp_path, "alpha"), wheel(tmp_path, "beta")

    assert name_of([one, other]) == name_of([one, other]) != name_of([one])
