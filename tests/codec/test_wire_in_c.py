"""An app's decoder: the C sources alone, built with sanitizers, give the same bytes and refuse the same lies."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import model_files
import numpy as np
import pytest
from test_hostile_wire import LIES, wire
from test_wire import archive, npy_bytes

from edgepack.codec.wire_write import pack_wire

SOURCES = Path(__file__).parents[2] / "edgepack" / "codec" / "c"
FLAGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
WRONG_BASE = 11


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc (Debian: apt-get install gcc)")
    path = tmp_path_factory.mktemp("c") / "unpack_wire"
    decoder = [file for file in sorted(SOURCES.glob("*.c")) if "encode" not in file.name]
    subprocess.run(
        [
            "gcc",
            *FLAGS,
            f"-I{SOURCES}",
            str(Path(__file__).with_name("unpack_wire.c")),
            *map(str, decoder),
            "-o",
            str(path),
        ],
        check=True,
    )
    return path


@pytest.fixture(scope="module")
def on_arm64(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The emulator, and the program for arm64."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("needs gcc-aarch64-linux-gnu and qemu-user-static (Debian)")
    path = tmp_path_factory.mktemp("arm64") / "unpack_wire"
    decoder = [str(file) for file in sorted(SOURCES.glob("*.c")) if "encode" not in file.name]
    words = ["aarch64-linux-gnu-gcc", "-std=c99", "-O2", "-static", f"-I{SOURCES}"]
    subprocess.run([*words, str(Path(__file__).with_name("unpack_wire.c")), *decoder, "-o", str(path)], check=True)
    return emulator, str(path)


def bundle() -> bytes:
    """Everything that the format has: entries, digests, a listing, copies, products, runs, chunks and tensors."""
    weights = model_files.WEIGHTS
    turned = np.ascontiguousarray(weights.transpose(0, 3, 1, 2)).view(np.uint8) ^ np.uint8(128)
    model = model_files.tflite().data
    return archive(
        {
            "arm64/model/model.tflite": model,
            "intel/model/m.npy": npy_bytes(turned),
            "labels.txt": b"one\ntwo\n",
            "zeros.bin": bytes(3000),
            "digest.json": hashlib.sha256(model).hexdigest().encode(),
        }
    )


def decoded(program: Path, folder: Path, wire_bytes: bytes, base: bytes | None = None) -> tuple[int, bytes]:
    """The answer (0 or more: the negated one) and the output."""
    (folder / "wire").write_bytes(wire_bytes)
    words = [str(program), str(folder / "wire"), str(folder / "out")]
    if base is not None:
        (folder / "base").write_bytes(base)
        words.append(str(folder / "base"))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert "Sanitizer" not in ended.stderr and "runtime error" not in ended.stderr, ended.stderr
    out = folder / "out"
    return ended.returncode, out.read_bytes() if out.exists() else b""


@pytest.mark.parametrize("profile", ["small", "fast"])
def test_c_alone_restores_bundles_and_files(program: Path, tmp_path: Path, profile: str) -> None:
    contents = {file.name: file.data for file in model_files.every(tmp_path)}
    contents |= {"x.edgepack": bundle(), "empty": b"", "text.txt": b"hello " * 100}

    for name, data in contents.items():
        packed = pack_wire(data, name, profile=profile)  # type: ignore[arg-type]

        assert decoded(program, tmp_path, packed.wire) == (0, data), name
        (tmp_path / "out").unlink()


def test_c_alone_applies_deltas_and_refuses_another_base(program: Path, tmp_path: Path) -> None:
    weights = model_files.WEIGHTS.copy()
    weights[3:9] += 1
    old = archive({"model/model.tflite": model_files.tflite().data, "labels.txt": b"one\ntwo\n", "old.txt": b"x"})
    new = archive(
        {"model/model.tflite": model_files.tflite(weights=weights, comment=b"made better").data, "labels.txt": b"1\n"}
    )
    delta = pack_wire(new, "b.edgepack", base=old).wire

    assert decoded(program, tmp_path, delta, old) == (0, new)
    assert decoded(program, tmp_path, delta, new)[0] == WRONG_BASE
    assert decoded(program, tmp_path, delta)[0] == WRONG_BASE


@pytest.mark.parametrize("profile", ["small", "fast"])
def test_arm64_restores_the_same_bytes(on_arm64: tuple[str, str], tmp_path: Path, profile: str) -> None:
    data = bundle()
    (tmp_path / "wire").write_bytes(pack_wire(data, "x.edgepack", profile=profile).wire)  # type: ignore[arg-type]

    subprocess.run([*on_arm64, str(tmp_path / "wire"), str(tmp_path / "out")], check=True, timeout=120)

    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("lie", LIES)
def test_c_refuses_what_python_refuses(program: Path, tmp_path: Path, lie: str) -> None:
    operations, payloads, size_bytes, is_archive = LIES[lie]

    answer, out = decoded(program, tmp_path, wire(operations, payloads, size_bytes=size_bytes, is_archive=is_archive))

    assert 1 <= answer <= 12
    assert out == b""


def test_changed_files_never_give_other_bytes_nor_leave_their_memory(program: Path, tmp_path: Path) -> None:
    (tmp_path / "wire").write_bytes(pack_wire(bundle(), "x.edgepack").wire)

    ended = subprocess.run([str(program), str(tmp_path / "wire"), "-"], capture_output=True, text=True, timeout=120)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_plain_compiler_with_all_warnings_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc (Debian: apt-get install gcc)")
    for file in [*SOURCES.glob("*wire*.c"), SOURCES / "epk_sha256.c"]:
        flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"]
        subprocess.run(["gcc", *flags, str(file)], check=True)


def test_the_sources_know_no_floating_point() -> None:
    """Scales are multiplied in integers: a machine that flushes small numbers to zero, or has no such unit, gives the same bytes."""
    for file in [*SOURCES.glob("*wire*.c"), SOURCES / "epk_sha256.c"]:
        code = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"\b(float|double)\b|math\.h", code), file.name
