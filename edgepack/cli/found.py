"""What a folder has that looks like a model: read, never imported."""

from __future__ import annotations

import ast
from pathlib import Path

from edgepack.sources import KIND_OF_SUFFIX

_NAMES = (
    "build",
    "build_model",
    "create_model",
    "make_model",
    "get_model",
    "load_model",
    "model",
    "net",
    "network",
    "factory",
)
_WEIGHTS = (".safetensors", ".pt", ".pth")
_FOLDERS = ("", "weights", "checkpoints")


def find_factories(folder: Path) -> list[str]:
    """'module:function' of what can be called without arguments and looks like a factory, most likely first.

    A function counts by its name or by a return annotation that ends in Module; a class counts when it derives from a Module.
    """
    found: list[tuple[int, str, str]] = []
    for file in sorted(folder.glob("*.py")):
        if file.stem.isidentifier() and not file.stem.startswith("test_"):
            found += [(rank, file.stem, name) for rank, name in _candidates(file)]
    return [f"{module}:{name}" for _, module, name in sorted(found)]


def find_weights(folder: Path) -> list[str]:
    """State dicts in the folder or in weights/ or checkpoints/ below it, safetensors first, relative to the folder."""
    files = [file for sub in _FOLDERS for suffix in _WEIGHTS for file in sorted((folder / sub).glob(f"*{suffix}"))]
    return [str(file.relative_to(folder)) for file in sorted(files, key=lambda file: _WEIGHTS.index(file.suffix))]


def find_model_files(folder: Path) -> list[str]:
    """Files that hold a whole model, of a kind that edgepack reads, in the folder or in models/ below it."""
    found = [
        file
        for sub in ("", "models")
        for suffix in KIND_OF_SUFFIX
        for file in sorted((folder / sub).glob(f"*{suffix}"))
    ]
    return [str(file.relative_to(folder)) for file in found if file.is_file()]


def _candidates(file: Path) -> list[tuple[int, str]]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and _callable_bare(node.args):
            if node.name in _NAMES:
                found.append((0, node.name))
            elif node.returns is not None and ast.unparse(node.returns).strip("'\"").endswith("Module"):
                found.append((1, node.name))
        elif isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Module") for base in node.bases):
            starts = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
            if all(_callable_bare(one.args, method=True) for one in starts):
                found.append((2, node.name))
    return found


def _callable_bare(arguments: ast.arguments, *, method: bool = False) -> bool:
    """Whether every argument has a default."""
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults) - (1 if method else 0)
    return required <= 0 and all(default is not None for default in arguments.kw_defaults)
