"""`python -m benchmarks wire`: packing and unpacking EfficientNet-Lite0 int8's bundle: time, MB/s, and memory beside the output."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.places import EXAMPLES, ROOT
from edgepack.bundle import read_bundle
from edgepack.codec.types import PROFILES
from edgepack.codec.wire_read import unpack_wire
from edgepack.codec.wire_write import pack_wire
from edgepack.core.errors import BundleError

BUNDLE = EXAMPLES / "efficientnet_lite0" / "dist" / "efficientnet-lite0-1.0.0-arm64.edgepack"
_ROUNDS = 3


def run() -> None:
    """Print the table; then the limits that it is held against."""
    data = BUNDLE.read_bytes()
    print(
        f"{'profile':8} {'bytes':>10} {'wire':>10} {'pack s':>8} {'unpack + verify s':>18} {'MB/s':>7} {'C: s':>6} {'C: MB beside':>13}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = _program(folder)
        for profile in PROFILES:
            begin = time.perf_counter()
            wire = pack_wire(data, BUNDLE.name, profile=profile).wire
            pack_s = time.perf_counter() - begin
            (folder / "wire").write_bytes(wire)
            unpack_s = min(_unpack_s(wire, folder / "restored.edgepack") for _ in range(_ROUNDS))
            c_s, beside_mb = _in_c(program, folder, len(data) + len(wire))
            print(
                f"{profile:8} {len(data):10,} {len(wire):10,} {pack_s:8.2f} {unpack_s:18.2f} {len(data) / 1e6 / unpack_s:7.1f} {c_s:6.2f} {beside_mb:13.1f}",
                flush=True,
            )
    print(
        "\nWanted: pack ≤ 5 s, unpack + verify ≤ 1 s, ≤ 32 MB beside the output (C). Packing reads its own result back once; its time is in."
    )


def _unpack_s(wire: bytes, restored: Path) -> float:
    """From the wire's bytes to a bundle of which every byte is checked."""
    begin = time.perf_counter()
    restored.write_bytes(unpack_wire(wire))
    try:
        read_bundle(restored).verify()
    except (
        BundleError
    ) as exc:  # a bundle of an older format, which this edgepack doesn't read: only its files are checked
        print(f"({exc})", file=sys.stderr)
        zipfile.ZipFile(restored).testzip()
    return time.perf_counter() - begin


def _program(folder: Path) -> Path | None:
    """The tests' program that unpacks as an app does, compiled as an app would; None without a compiler."""
    if shutil.which("gcc") is None:
        return None
    sources = ROOT / "edgepack" / "codec" / "c"
    decoder = [str(file) for file in sources.glob("*.c") if "encode" not in file.name]
    program = folder / "unpack_wire"
    main = ROOT / "tests" / "codec" / "unpack_wire.c"
    subprocess.run(["gcc", "-O2", "-std=c99", f"-I{sources}", str(main), *decoder, "-o", str(program)], check=True)
    return program


def _in_c(program: Path | None, folder: Path, held_bytes: int) -> tuple[float, float]:
    """Seconds, and the peak memory beside the wire file and the output, in MB."""
    if program is None:
        return float("nan"), float("nan")
    begin = time.perf_counter()
    words = [str(program), str(folder / "wire"), str(folder / "out")]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    took_s = time.perf_counter() - begin
    return took_s, (int(told.split()[0]) * 1024 - held_bytes) / 1e6
