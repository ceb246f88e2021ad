from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bundle"))  # its small bundle serves here, too
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    """The small bundle, unsigned."""
    from small_bundle import content, files

    from edgepack.bundle import write_bundle
    from edgepack.bundle.manifest import Manifest

    return write_bundle(tmp_path / "small.edgepack", manifest=Manifest.model_validate(content()), files=files())


@pytest.fixture
def model_signing() -> Callable[..., int]:
    """OpenSSF's own tool: `model_signing("verify", "key", …)` gives its exit code."""
    from model_signing_tool import run, why_not

    if reason := why_not():
        pytest.skip(reason)
    return run
