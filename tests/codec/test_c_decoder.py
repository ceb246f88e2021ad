"""The decoder's C sources as an app compiles them: alone, under sanitizers, for arm64."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_vectors import VECTORS, parts

from edgepack.codec.coders import decode
from edgepack.codec.compiling import SOURCES
from edgepack.codec.types import KINDS

DRIVER = Path(__file__).parent / "decode_vectors.c"
DECODER = [SOURCES / f"epk_{name}.c" for name in ("decode", "mixer", "weights", "rans", "wide", "bytes")]
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@pytest.fixture(scope="module")
def vectors_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = bytearray(len(VECTORS).to_bytes(4, "little"))
    for vector in VECTORS:
        coded, segment, base = parts(vector)
        out += coded.coder.to_bytes(4, "little") + KINDS.index(segment.kind).to_bytes(4, "little")
        for blob in (coded.params, coded.payload, base or b"", decode(coded, segment, base=base)):
            out += len(blob).to_bytes(4, "little") + blob
    path = tmp_path_factory.mktemp("vectors") / "vectors.bin"
    path.write_bytes(out)
    return path


def build(compiler: str, flags: list[str], folder: Path) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    program = folder / "decode_vectors"
    command = [compiler, *STRICT, *flags, f"-I{SOURCES}", "-o", str(program), str(DRIVER), *map(str, DECODER)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    return program


def run(command: list[str], *, timeout_s: int = 300) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_damaged_streams_do_no_harm_under_sanitizers(vectors_file: Path, tmp_path: Path) -> None:
    """Every buffer is exactly as large as its data; the address and undefined-behaviour sanitizers end the program at any slip."""
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

    said = run([str(build("gcc", flags, tmp_path)), str(vectors_file), "12"])

    assert said == f"{len(VECTORS)} vectors, 0 differ\n"


@pytest.mark.slow
def test_many_damaged_streams_do_no_harm_under_sanitizers(vectors_file: Path, tmp_path: Path) -> None:
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

    run([str(build("gcc", flags, tmp_path)), str(vectors_file), "1000"], timeout_s=550)


def test_arm64_decodes_the_same_bytes(vectors_file: Path, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64 (Debian: qemu-user-static)")
    program = build("aarch64-linux-gnu-gcc", ["-O2", "-static"], tmp_path)

    said = run([emulator, str(program), str(vectors_file)])

    assert said == f"{len(VECTORS)} vectors, 0 differ\n"


def test_the_sources_know_no_floating_point_and_no_library() -> None:
    """A compiler that fuses multiply and add would decode other bytes; an app must need nothing else."""
    for file in DECODER:
        code = re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        outside_of_the_encoder = re.sub(r"#ifdef EPK_ENCODER\n.*?#e(lse|ndif)", "", code, flags=re.DOTALL)
        assert not re.search(r"\b(float|double|long double)\b|\d\.\d|math\.h", code), file.name
        assert not re.search(r"\b(malloc|calloc|realloc|free|printf|setjmp)\b", outside_of_the_encoder), file.name
