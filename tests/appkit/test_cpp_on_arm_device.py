"""The C++ kit, compiled for arm64 and run on an arm64 system: the golden samples with the runtimes' own arm64 libraries."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from app_bundles import app_bundle
from arm_device.machine import ArmDevice

from edgepack.appkit.make import make_appkit
from edgepack.bundle import read_bundle

pytestmark = pytest.mark.device
TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
"""
LIBRARIES = {
    "tflite": ("-DLITERT_LIBRARY", "/opt/litert/ai_edge_litert/libLiteRt.so", "libLiteRt.so"),
    "onnx": ("-DONNXRUNTIME_LIBRARY", "/opt/onnxruntime/onnxruntime/capi/libonnxruntime.so.*", "libonnxruntime.so.1"),
}


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run([str(one) for one in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def over_ssh(device: ArmDevice, command: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    words = ["ssh", "-F", str(device.ssh_config), "arm-device-root", command]
    return subprocess.run(words, timeout=300, check=True, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("format_name", LIBRARIES)
def test_the_golden_samples_pass_on_arm64(format_name: str, arm_device: ArmDevice, tmp_path: Path) -> None:
    for program in ("cmake", "aarch64-linux-gnu-g++"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    option, there, soname = LIBRARIES[format_name]
    with (tmp_path / soname).open("wb") as library:
        over_ssh(arm_device, f"cat {there}", stdout=library)
    kit = tmp_path / "kit"
    make_appkit(read_bundle(app_bundle(tmp_path / "bundle", format_name)), "cpp", kit)
    (tmp_path / "arm64.cmake").write_text(TOOLCHAIN)
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'arm64.cmake'}"
    run("cmake", "-S", kit, "-B", kit / "build", toolchain, f"{option}={tmp_path / soname}", cwd=tmp_path)
    run("cmake", "--build", kit / "build", "--target", "golden_test", cwd=tmp_path)

    with tarfile.open(tmp_path / "kit.tar", "w") as archive:
        for name in ("build/golden_test", "model", "tests/golden"):
            archive.add(kit / name, name)
    with (tmp_path / "kit.tar").open("rb") as archive_file:
        over_ssh(arm_device, f"mkdir -p /tmp/{format_name} && tar x -C /tmp/{format_name}", stdin=archive_file)
    command = f"cd /tmp/{format_name} && ln -sf {there} {soname} && mkdir -p run && cd run && "
    command += "LD_LIBRARY_PATH=.. ../build/golden_test ../model ../tests/golden"
    told = over_ssh(arm_device, command, stdout=subprocess.PIPE).stdout.decode()

    assert told.endswith("passed\n")
    assert "sample 2, output 0: at most 0 steps of 1" in told
    assert told.count("preprocessing: the same bytes") == 3
