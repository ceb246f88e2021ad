from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_bundle import content, files

from edgepack.bundle.archive import write_bundle
from edgepack.bundle.manifest import Manifest


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes the small bundle; keyword arguments replace keys of its manifest."""

    def make_bundle(name: str = "small.edgepack", **changes: Any) -> Path:
        return write_bundle(tmp_path / name, manifest=Manifest.model_validate(content(**changes)), files=files())

    return make_bundle


@pytest.fixture
def bundle_path(make: Callable[..., Path]) -> Path:
    return make()
