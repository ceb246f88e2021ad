"""Nothing is sent: the libraries that would tell their makers of a build can't."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("first", ["edgepack.network", "edgepack.network.fold", "edgepack.network.grid"])
def test_the_libraries_of_a_build_load_no_telemetry(first: str, tmp_path: Path) -> None:
    """OpenVINO's telemetry would write an identifier into the user's home before it sends."""
    code = f"import sys, {first}, nncf, openvino; print(sys.modules['openvino_telemetry'])"
    env = {name: value for name, value in os.environ.items() if name not in ("NNCF_CI", "CI")}

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**env, "HOME": str(tmp_path)},
    )

    assert done.stdout.strip() == "None", done.stderr
    assert not (tmp_path / "intel").exists()
