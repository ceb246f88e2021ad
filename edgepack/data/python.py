"""Samples from the user's own function."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgepack.core.digest import sha256_bytes
from edgepack.core.errors import DataError, did_you_mean
from edgepack.data.paths import existing_file
from edgepack.data.protocol import RawSamples

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """What `function`, written 'module:function', returns for the keyword arguments `args`: (samples, labels or None).

    The module is a file beside the recipe, or else an importable one. `depends` names the files that the function
    reads, and other modules of yours that it uses: when one changes, the samples count as new.
    """

    recipe_folder: Path
    function: str
    args: Mapping[str, Any] = field(default_factory=dict)
    depends: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _REFERENCE.match(self.function):
            raise ValueError(f"'function' must look like 'module:function', got '{self.function}'")
        try:
            json.dumps(self.args, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise ValueError(f"'args' must hold text, finite numbers, booleans, lists and tables only: {exc}") from exc

    def files(self) -> tuple[Path, ...]:
        depends = tuple(existing_file(name, folder=self.recipe_folder) for name in self.depends)
        return (self._source(), *depends)

    def load(self) -> RawSamples:
        self.files()
        returned = self._call()
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise DataError(
                f"{self._source()}: {self.function} must return (samples, labels), got {type(returned).__name__}"
            )
        samples, labels = returned
        if not isinstance(samples, (np.ndarray, list, dict)):
            raise DataError(
                f"{self._source()}: {self.function} must return the samples as an array, a list or a dict, "
                f"got {type(samples).__name__}"
            )
        if isinstance(samples, dict):
            samples = {name: np.asarray(array) for name, array in samples.items()}
        return RawSamples(samples=samples, labels=None if labels is None else np.asarray(labels))

    def _call(self) -> Any:
        try:
            with _importable_beside(self.recipe_folder):
                return self._loaded()(**self.args)
        except DataError:
            raise
        except Exception as exc:  # the user's code may raise anything; it is named and kept as the cause
            raise DataError(f"{self._source()}: {self.function} raised {type(exc).__name__}: {exc}") from exc

    def _loaded(self) -> Callable[..., Any]:
        module_name, _, name = self.function.partition(":")
        beside = _beside(self.recipe_folder, module_name)
        module = importlib.import_module(module_name) if beside is None else _module_from(beside)
        function = getattr(module, name, None)
        if not callable(function):
            raise DataError(f"{self._source()}: no function '{name}' in it{did_you_mean(name, vars(module))}")
        found: Callable[..., Any] = function
        return found

    def _source(self) -> Path:
        module_name = self.function.partition(":")[0]
        if (beside := _beside(self.recipe_folder, module_name)) is not None:
            return beside
        try:
            spec = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.has_location or spec.origin is None:
            raise DataError(
                f"{self.recipe_folder}: no {module_name.replace('.', '/')}.py here and no importable module "
                f"'{module_name}'; check 'function = \"{self.function}\"'"
            )
        return Path(spec.origin)


def _beside(folder: Path, module_name: str) -> Path | None:
    stem = folder.joinpath(*module_name.split("."))
    return next((file for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py") if file.is_file()), None)


def _module_from(file: Path) -> ModuleType:
    """The module of a file, under a name of its own, so that two projects may both have a data.py."""
    name = f"_edgepack_data_{sha256_bytes(str(file.resolve()).encode())[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable_beside(folder: Path) -> Iterator[None]:
    """Let the user's module import its neighbours."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's module may have taken it out itself
            sys.path.remove(str(folder))
