"""The C steps on arm64 (by QEMU) and under sanitizers: the bytes of the Python reference there, too."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_vectors import image
from conftest import NATIVE
from native_steps import FILTERS

from edgepack.agent.postprocess import postprocess
from edgepack.agent.preprocess import preprocess
from edgepack.core.types import QuantParams
from edgepack.runtimes.grid import quantize

RUNNER = Path(__file__).parent / "steps_runner.c"
SANITIZED = ["cc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ARM64 = ["aarch64-linux-gnu-gcc", "-O3", "-static"]  # -O3 contracts a * b + c on arm64, were it not told not to
MACHINES: dict[str, tuple[list[str], list[str]]] = {
    "sanitizers": (SANITIZED, []),
    "arm64": (ARM64, ["qemu-aarch64-static"]),
}
IMAGES = 300


@pytest.fixture(scope="module", params=MACHINES)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the steps on a machine."""
    compiler, emulator = MACHINES[request.param]
    for program in (compiler[0], *emulator):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    program = tmp_path_factory.mktemp("steps") / "runner"
    flags = ["-std=c99", "-ffp-contract=off", "-I", NATIVE, RUNNER, *sorted(NATIVE.glob("*.c")), "-o", program, "-lm"]
    subprocess.run([*compiler, *map(str, flags)], check=True, timeout=120)
    return [*emulator, str(program)]


class Script:
    """Commands for the runner, and what each must answer."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.expected: list[bytes] = []

    def add(self, command: str, data: Any, expected: bytes) -> None:
        raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        self.commands.append(f"{command}\n".encode() + raw)
        self.expected.append(expected)

    def run(self, runner: list[str]) -> None:
        done = subprocess.run(runner, input=b"".join(self.commands), capture_output=True, timeout=300)

        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == b"".join(self.expected)


def test_images_of_all_sizes_have_the_same_bytes(runner: list[str]) -> None:
    script, rng = Script(), np.random.default_rng(15)
    for index, sides in enumerate(np.exp(rng.uniform(0, np.log(120), (IMAGES, 4))).astype(int).tolist()):
        height, width, rows, columns = sides
        name, channels = list(FILTERS)[index % 4], (1, 3)[index % 2]
        sample = image(height, width, channels, ("noise", "edges", "ramp")[index % 3])
        step = {"op": "resize", "size": [rows, columns], "filter": name}
        command = f"resize {height} {width} {channels} {FILTERS[name]} {rows} {columns}"
        script.add(command, sample, preprocess([sample], [step])[0].tobytes())

    script.run(runner)


def test_values_and_codes_have_the_same_bytes(runner: list[str]) -> None:
    script, rng = Script(), np.random.default_rng(16)
    pixels = rng.integers(0, 256, (100, 100, 3)).astype(np.uint8)
    script.add("gray 10000", pixels, preprocess([pixels], [{"op": "grayscale"}])[0].tobytes())
    for mean, std, scale in ((0.485, 0.229, 0.0187069308), (0.5, 0.25, 1 / 3), (0.406, 0.225, 0.0041)):
        scale = float(np.float32(scale))
        steps = [{"op": "to_float", "divide": 255.0}, {"op": "normalize", "mean": mean, "std": std}]
        expected = quantize(preprocess([pixels], steps)[0], QuantParams(scale=(scale,), zero_point=(-14,)))
        numbers = " ".join(str(np.float32(one)) for one in (255.0, mean, std, scale))
        script.add(f"codes {pixels.size} {numbers} -14", pixels, expected.tobytes())
    for width in (0.01, 1.0, 20.0, 400.0):
        values = (rng.standard_normal(5000) * width).astype(np.float32)
        for op in ("softmax", "sigmoid"):
            script.add(f"{op} {values.size}", values, postprocess(values[None], [{"op": op}])[0].tobytes())
    data = rng.bytes(100_001)
    script.add(f"sha256 {len(data)}", data, hashlib.sha256(data).hexdigest().encode())

    script.run(runner)
