from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from native_steps import NativeSteps

NATIVE = Path(__file__).parents[2] / "edgepack" / "appkit" / "native"


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> NativeSteps:
    """The C sources as a library, compiled with every warning as an error."""
    library = tmp_path_factory.mktemp("native") / "steps.so"
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-fPIC", "-shared"]
    sources = sorted(map(str, NATIVE.glob("*.c")))
    subprocess.run(["cc", *warnings, *flags, *sources, "-o", str(library), "-lm"], check=True, timeout=120)
    return NativeSteps(library)
