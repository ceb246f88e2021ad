"""edgepack: from a trained model to an app-ready bundle, proven small, fast and still right.

import edgepack
bundle = edgepack.build(Path("edgepack.toml"), target="arm64")
result = edgepack.bench(bundle.path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Bundle", "Recipe", "bench", "build", "join", "load_recipe", "read_bundle", "verify"]

if TYPE_CHECKING:
    from edgepack.bundle import Bundle, read_bundle
    from edgepack.bundle.join import join
    from edgepack.opened import bench
    from edgepack.pipeline import build
    from edgepack.recipe import Recipe, load_recipe
    from edgepack.verified import verify

_HOMES = {
    "Bundle": "edgepack.bundle",
    "read_bundle": "edgepack.bundle",
    "join": "edgepack.bundle.join",
    "Recipe": "edgepack.recipe",
    "load_recipe": "edgepack.recipe",
    "bench": "edgepack.opened",
    "build": "edgepack.pipeline",
    "verify": "edgepack.verified",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that `import edgepack` costs nothing."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'edgepack' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
