"""What decides about a stage's bytes beside its own inputs: our code, and every tool's version."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgepack import __version__
from edgepack.core.digest import digest_of_files, sha256_file

_PACKAGE = Path(__file__).resolve().parent.parent
_TOOLS = (
    "torch", "torch-pruning", "nncf", "numpy", "pillow", "litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert",
    "onnx", "onnxscript", "onnx-ir", "onnxruntime", "openvino",
)  # fmt: skip
# The rooms whose code decides about a stage's bytes; the command line and the benchmark do not. What only the bundle's bytes depend on
# stands apart, so that nothing is trained again for it.
_CODE = (
    "agent/preprocess.py",
    "bundle/update_base.py",
    "bundle/golden.py",
    "core",
    "data",
    "exporters",
    "grouping.py",
    "methods",
    "network",
    "plan",
    "recipe",
    "runtimes",
    "sources",
    "stages",
    "stats",
    "targets.py",
    "updates.py",
)
BUNDLE_CODE = (
    "agent/postprocess.py",
    "bundle",
    "codec/segments",
    "data/answers.py",
    "stages/bundle.py",
    "stages/described.py",
    "stages/precision.py",
    "stages/raw.py",
)


def tool_versions() -> dict[str, str]:
    """Every library whose version can change the bytes, ours included."""
    found = {"edgepack": __version__}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def code_digest(parts: tuple[str, ...] = _CODE) -> str:
    """One digest over the code that decides about a stage's bytes: files and folders of our package."""
    return digest_of_files(code_files(parts), root=_PACKAGE)


def code_files(parts: tuple[str, ...] = _CODE) -> list[Path]:
    """The files of some parts of our package; of the parts of every stage, those that only the bundle's bytes depend on are left out."""
    apart = () if parts == BUNDLE_CODE else BUNDLE_CODE
    files: list[Path] = []
    for part in parts:
        path = _PACKAGE / part
        files.extend([path] if path.is_file() else path.rglob("*.py"))
    return [file for file in files if str(file.relative_to(_PACKAGE)) not in apart]


def file_digests(files: tuple[Path, ...]) -> dict[Path, str]:
    """Digests of files that exist; a file that has gone counts as such."""
    return {file: sha256_file(file) if file.is_file() else "gone" for file in files}
