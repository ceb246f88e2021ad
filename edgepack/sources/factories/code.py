"""The recipe's own code: its modules as they are on disk now, the function in one of them, and every file that they are made of."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, SourceError, did_you_mean
from edgepack.core.said import first_line

# Their versions are part of every stage's key, so their files need not be.
_TOOLS = {"torch", "numpy", "nncf", "scipy", "safetensors", "pydantic", "edgepack", "torchgen", "sympy"}
# Modules of recipes' folders that were imported here: name → file and the digest it had.
_IMPORTED: dict[str, tuple[Path, str]] = {}


@contextmanager
def importable(folder: Path, reference: str) -> Iterator[None]:
    """The recipe's folder comes first in the search for modules, and its modules are those of the files as they are now."""
    folder = folder.resolve()
    _forget_other_modules(folder, reference.partition(":")[0].partition(".")[0])
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's module may have taken it out itself
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = _source_file(name)
            if file is not None and file.is_relative_to(folder) and "site-packages" not in file.parts:
                _IMPORTED[name] = (file, sha256_file(file))


def _forget_other_modules(folder: Path, factory_module: str) -> None:
    """Unload modules of another recipe, or of files that changed since: many projects have a model.py, and people edit theirs."""
    if any(not file.is_relative_to(folder) or not _is_unchanged(file, digest) for file, digest in _IMPORTED.values()):
        for name in _IMPORTED:
            sys.modules.pop(name, None)
        _IMPORTED.clear()
    loaded = _source_file(factory_module)
    own = {folder / f"{factory_module}.py", folder / factory_module / "__init__.py"}
    if loaded is not None and loaded not in own and any(file.is_file() for file in own):
        for name in [n for n in sys.modules if n.partition(".")[0] == factory_module]:
            del sys.modules[name]


def _is_unchanged(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_file(file) == digest


def _source_file(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def module_file(folder: Path, reference: str) -> Path:
    """Where the module of `reference` ("module:function") lies, without running it. Raises SourceError where there is none."""
    module = reference.partition(":")[0]
    with importable(folder, module):
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
    if spec is None or spec.origin is None or spec.origin in ("built-in", "frozen"):
        raise SourceError(
            f"model.factory: no module '{module}', neither in {folder} nor installed; check the name and the folder"
        )
    return Path(spec.origin)


def function_of(reference: str) -> Callable[..., Any]:
    """The function that "module:function" names, its module imported. Raises SourceError, and EnvironmentProblem for a package that it needs."""
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.split(".")[0] == module_name.split(".")[0]:
            raise SourceError(f"model.factory: no module '{module_name}'; check the name and the folder") from exc
        raise EnvironmentProblem(
            f"model.factory: {module_name} needs the package '{exc.name}'; install it: pip install {exc.name}"
        ) from exc
    except Exception as exc:
        raise SourceError(f"model.factory: importing {module_name} raised {where_raised(exc)}") from exc
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise SourceError(f"model.factory: {module_name} has no function '{name}'{did_you_mean(name, known)}")
    return function  # type: ignore[no-any-return]


def code_files(start: Path) -> set[Path]:
    """Every loaded source file that the factory's file imports, directly or through others, but those of tools.

    Read from the source, not from what was newly loaded: another build in this process may have loaded a module before.
    """
    by_file = {
        file: name
        for name in list(sys.modules)
        if name.partition(".")[0] not in _TOOLS | set(sys.stdlib_module_names) and (file := _source_file(name))
    }
    found: set[Path] = set()
    waiting = [start.resolve()]
    while waiting:
        file = waiting.pop()
        if file in by_file and file not in found:
            found.add(file)
            waiting.extend(f for name in _imports(file, by_file[file]) if (f := _source_file(name)) is not None)
    return found


def _imports(file: Path, module: str) -> Iterator[str]:
    """The names of the modules that a file's import statements can mean, parents included."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            kept = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*kept, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def where_raised(exc: Exception) -> str:
    """'ValueError: message (file.py, line 3)' of the innermost frame that is not a library's."""
    everything = list(traceback.extract_tb(exc.__traceback__))
    frames = [frame for frame in everything if "site-packages" not in frame.filename] or everything
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {first_line(exc)}{place}"
