"""Build hook: compiles the codec into the package, for wheels and editable installs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CodecBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """With a C compiler the wheel holds the compiled codec and is the platform's; without one it is pure Python, and says so."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiling = _compiling(Path(self.root))
        if self.target_name != "wheel" or os.environ.get("EDGEPACK_PURE_PYTHON"):
            return
        try:
            compiling.compile_library(compiling.BUILT)
        except (compiling.CompilerMissing, compiling.CompilationFailed) as exc:
            self.app.display_warning(
                f"the codec is not compiled ({exc}); it is on first use, where a compiler is there"
            )
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{compiling.platform_name().replace('-', '_').replace('.', '_')}"
        if version != "editable":
            build_data["force_include"][str(compiling.BUILT)] = "edgepack/codec/_native.so"


def _compiling(root: Path) -> Any:
    """edgepack.codec.compiling, without the package's requirements, which are not there while it is built."""
    spec = importlib.util.spec_from_file_location("compiling", root / "edgepack" / "codec" / "compiling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
