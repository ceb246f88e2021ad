from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepack.cli import app

sys.path.append(str(Path(__file__).parents[1] / "bundle"))  # its small bundle serves here, too

PLAIN = {"EDGEPACK_DEBUG": "", "NO_COLOR": "1", "COLUMNS": "160"}


@pytest.fixture
def call() -> Callable[..., Result]:
    """A command in this process: `call("targets", "arm64")`."""

    def run(*arguments: object, **env: str) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], env={**PLAIN, **env}, prog_name="edgepack")

    return run


@pytest.fixture
def run(call: Callable[..., Result]) -> Callable[..., Result]:
    """A command that must end with `code`: `run("targets", "arm46", code=3)`."""

    def checked(*arguments: object, code: int = 0) -> Result:
        result = call(*arguments)
        assert result.exit_code == code, f"{result.exit_code}: {result.output}"
        return result

    return checked


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """A bundle with every part of a manifest, and a model that no runtime can open."""
    from small_bundle import content, files

    from edgepack.bundle import write_bundle
    from edgepack.bundle.manifest import Manifest

    check = {"kind": "accuracy", "name": "drop_points", "value": 5.0, "limit": 1.0, "direction": "max"}
    manifest = content(
        description="Reads [bold] digits.",
        labels=[f"label-{index}" for index in range(20)],
        preprocess=[{"op": "to_float", "divide": 255.0}],
        metric={"name": "top1", "value": 0.9, "float_value": 0.95, "samples": 1000, "ci95": [0.88, 0.92]},
        checks=[{**check, "samples": 1000, "ci95": [4.0, 6.0], "method": "paired interval", "passed": False}],
        checks_passed=False,
        lineage={"recipe_sha256": "ab" * 32},
        created_with={"torch": "2.13.0"},
    )
    return write_bundle(tmp_path / "digits.edgepack", manifest=Manifest.model_validate(manifest), files=files())


@pytest.fixture(scope="session")
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A command as a user gives it, in a process of its own: `shell("build", "--recipe", folder)`."""

    def run(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgepack", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **PLAIN, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    """A suite whose processes last some tenths of a second."""
    path = tmp_path / "brief.toml"
    path.write_text("warmup_min_s = 0.0\nwarmup_max_s = 0.1\nduration_min_s = 0.05\n")
    return path
