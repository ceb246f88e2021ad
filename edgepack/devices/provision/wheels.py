"""Wheels for another machine's Python, downloaded here by pip: the device needs no internet and no pip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edgepack.core.digest import digest_of, sha256_file
from edgepack.core.errors import EnvironmentProblem, UnsupportedError, did_you_mean
from edgepack.core.files import cache_folder, folder_in_the_making

# A runtime's packages; the version is the one that is installed here, in which bundles are verified. tflite-runtime ends with 2.14 and NumPy 1.
_PACKAGES: dict[str, tuple[str, ...]] = {
    "litert": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime==2.14.0", "numpy<2"),
    "onnxruntime": ("onnxruntime", "numpy"),
    "openvino": ("openvino", "numpy"),
}
_DOWNLOAD_LIMIT_S = 900
_OLDEST_GLIBC = 17  # manylinux2014
_TAIL_LINES = 3


class DevicePython(BaseModel):
    """What a device's Python says of itself; `packages` is the folder there for what edgepack brings."""

    model_config = ConfigDict(frozen=True)

    version: tuple[int, int, int]
    implementation: str
    machine: str
    bits: int
    glibc: tuple[int, int] | None
    musl: bool
    packages: str
    free_bytes: int

    @property
    def architecture(self) -> str:
        """As wheels name it; a 64-bit kernel may run a 32-bit system."""
        is_32_bit_arm = self.bits == 32 and self.machine in ("aarch64", "armv8l")
        return "armv7l" if is_32_bit_arm else self.machine

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that fit (PEP 600, PEP 656)."""
        if self.glibc is not None:
            usual = tuple(
                f"manylinux_2_{minor}_{self.architecture}" for minor in range(_OLDEST_GLIBC, self.glibc[1] + 1)
            )
            return (*usual, f"manylinux2014_{self.architecture}") if usual else ()
        return tuple(f"musllinux_1_{minor}_{self.architecture}" for minor in (1, 2)) if self.musl else ()

    def __str__(self) -> str:
        version = ".".join(map(str, self.version[:2]))
        libc = (
            f"glibc {self.glibc[0]}.{self.glibc[1]}" if self.glibc else "musl" if self.musl else "an unknown C library"
        )
        return f"Python {version} on {self.architecture} with {libc}"


def requirements_of(runtime: str) -> tuple[str, ...]:
    """What pip is asked for. Raises UnsupportedError for a runtime without wheels."""
    if runtime not in _PACKAGES:
        raise UnsupportedError(
            f"--provision: no wheels are known for runtime '{runtime}'{did_you_mean(runtime, _PACKAGES)}"
        )
    return tuple(_as_installed_here(package) for package in _PACKAGES[runtime])


def _as_installed_here(package: str) -> str:
    if any(sign in package for sign in "=<>"):
        return package
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def wheels_for(python: DevicePython, requirements: Sequence[str]) -> tuple[Path, ...]:
    """The wheels, all that they need included, from the cache or downloaded. Raises EnvironmentProblem."""
    if python.implementation != "cpython" or not python.platforms:
        raise EnvironmentProblem(
            f"--provision: there are no wheels for {python} ({python.implementation}); install the runtime there"
        )
    folder = (
        cache_folder()
        / "wheels"
        / digest_of([list(requirements), list(python.platforms), list(python.version[:2])])[:16]
    )
    if not folder.is_dir():
        with folder_in_the_making(folder) as scratch:
            _download(python, requirements, scratch)
    return tuple(sorted(folder.glob("*.whl")))


def name_of(wheels: Sequence[Path]) -> str:
    """The set's name on any device: the digest of what is in it."""
    return digest_of([[wheel.name, sha256_file(wheel)] for wheel in wheels])[:16]


def _download(python: DevicePython, requirements: Sequence[str], folder: Path) -> None:
    abi = f"cp{python.version[0]}{python.version[1]}"
    tags = ["--python-version", f"{python.version[0]}.{python.version[1]}", "--implementation", "cp"]
    tags += [word for name in (abi, "abi3", "none") for word in ("--abi", name)]
    tags += [word for name in python.platforms for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", *tags, "--dest", str(folder), *requirements],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise EnvironmentProblem(
            f"--provision: downloading {', '.join(requirements)} took longer than {_DOWNLOAD_LIMIT_S} s"
        ) from exc
    if done.returncode != 0:
        raise EnvironmentProblem(_why_not(python, requirements, done.stderr))


def _why_not(python: DevicePython, requirements: Sequence[str], said: str) -> str:
    wanted = ", ".join(requirements)
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR")]
    if "No module named pip" in said:
        return "--provision: pip is not installed here: 'python -m ensurepip' brings it"
    if any("No matching distribution" in line or "ResolutionImpossible" in line for line in errors):
        return (
            f"--provision: no wheel of {wanted} for {python}: {errors[-1]}; use a Python there that it has wheels for "
            "(`python` in devices.toml), or install the runtime there yourself"
        )
    tail = " / ".join((errors or said.strip().splitlines())[-_TAIL_LINES:])
    return f"--provision: {wanted} can't be downloaded: {tail}; this machine needs its package index for it, once"
