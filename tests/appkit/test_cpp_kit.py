"""The C++ kit: built with CMake against the library in each runtime's wheel, tested by its own golden test, asked about a picture."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from app_bundles import app_bundle, raw_images
from kit_answers import edgepacks_own_answer
from PIL import Image

from edgepack.appkit.make import make_appkit
from edgepack.bundle import read_bundle

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed")
STRICT_C = "-Wall -Wextra -Wpedantic -Wshadow -Werror"
STRICT = f"{STRICT_C} -Wconversion"


def wheel_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def library_option(format_name: str) -> str:
    """Where CMake finds the runtime's library, in the wheel that the tests have anyway."""
    if format_name == "tflite":
        return f"-DLITERT_LIBRARY={wheel_of('ai_edge_litert') / 'libLiteRt.so'}"
    if format_name == "openvino":
        return f"-DOpenVINO_DIR={wheel_of('openvino') / 'cmake'}"
    (library,) = (wheel_of("onnxruntime") / "capi").glob("libonnxruntime.so.*")
    return f"-DONNXRUNTIME_LIBRARY={library}"


def run(*command: object, cwd: Path, code: int = 0) -> str:
    done = subprocess.run([str(one) for one in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built_kit(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The C++ project of a small bundle by the format of its model, with its build folder in it; built once."""
    made: dict[str, Path] = {}

    def get(format_name: str) -> Path:
        if format_name not in made:
            made[format_name] = _build(tmp_path_factory.mktemp("cpp"), format_name)
        return made[format_name]

    return get


def _build(folder: Path, format_name: str) -> Path:
    kit = folder / "kit"
    make_appkit(read_bundle(app_bundle(folder / "bundle", format_name)), "cpp", kit)
    strict = [f"-DCMAKE_CXX_FLAGS={STRICT}", f"-DCMAKE_C_FLAGS={STRICT_C} -O1"]
    run("cmake", "-S", kit, "-B", kit / "build", library_option(format_name), *strict, cwd=folder)
    run("cmake", "--build", kit / "build", "--parallel", min(2, os.cpu_count() or 1), cwd=folder)
    return kit


@pytest.mark.parametrize(
    "format_name",
    ["onnx", pytest.param("tflite", marks=pytest.mark.slow), pytest.param("openvino", marks=pytest.mark.slow)],
)
def test_the_project_is_built_and_sees_what_edgepack_sees(
    format_name: str, built_kit: Callable[[str], Path], tmp_path: Path
) -> None:
    kit = built_kit(format_name)
    picture = tmp_path / "bird.ppm"
    Image.fromarray(raw_images()[2]).save(picture)

    told = run("ctest", "--verbose", cwd=kit / "build")
    seen = run(kit / "build" / "classify", kit / "model", picture, cwd=tmp_path)

    assert "sample 2, output 0: at most 0 steps of 1" in told
    assert told.count("preprocessing: the same bytes") == 3
    assert "a changed model: refused" in told
    expected = edgepacks_own_answer(kit.parent / "bundle" / "birds.edgepack", picture)
    assert seen.splitlines() == [f"{picture}: {label} {score:.9g}" for _, label, score in expected]


def test_wrong_golden_samples_fail_the_test(built_kit: Callable[[str], Path], tmp_path: Path) -> None:
    kit = built_kit("onnx")
    golden = shutil.copytree(kit / "tests" / "golden", tmp_path / "golden") / "output_0.npy"
    data = bytearray(golden.read_bytes())
    data[-1] ^= 64
    golden.write_bytes(data)

    told = run(kit / "build" / "golden_test", kit / "model", golden.parent, cwd=tmp_path, code=1)

    assert "sample 2, output 0: at most 64 steps of 1" in told
    assert told.endswith("FAILED\n")


def test_a_model_in_the_wire_form_is_unpacked_and_loaded(built_kit: Callable[[str], Path], tmp_path: Path) -> None:
    kit = built_kit("onnx")
    bundle, wire = kit.parent / "bundle" / "birds.edgepack", tmp_path / "birds.edgepackz"
    run(sys.executable, "-m", "edgepack", "pack", bundle, "-o", wire, cwd=tmp_path)

    told = run(kit / "build" / "unpack", wire, tmp_path / "installed", cwd=tmp_path)

    assert told.endswith("installed: the model is there and loads\n")
    for name in ("model.onnx", "labels.txt"):
        assert (tmp_path / "installed" / name).read_bytes() == (kit / "model" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "installed").iterdir()) == ["labels.txt", "model.onnx"]


def test_damaged_wire_files_and_other_bundles_are_refused(built_kit: Callable[[str], Path], tmp_path: Path) -> None:
    kit = built_kit("onnx")
    bundle, wire = kit.parent / "bundle" / "birds.edgepack", tmp_path / "birds.edgepackz"
    run(sys.executable, "-m", "edgepack", "pack", bundle, "-o", wire, cwd=tmp_path)
    whole = wire.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 7)):
        (tmp_path / "damaged").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        run(kit / "build" / "unpack", tmp_path / "damaged", tmp_path / "out", cwd=tmp_path, code=1)
    other = app_bundle(tmp_path / "other", "tflite")
    run(sys.executable, "-m", "edgepack", "pack", other, "-o", tmp_path / "other.edgepackz", cwd=tmp_path)

    run(kit / "build" / "unpack", tmp_path / "other.edgepackz", tmp_path / "out", cwd=tmp_path, code=1)

    assert list((tmp_path / "out").iterdir()) == []
