"""A table of plug-ins: names to 'module:attribute', loaded only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from edgepack.core.errors import EnvironmentProblem, RecipeError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """What can be named in a recipe. Third parties add names by the entry-point group `edgepack.<kind>`.

    `kind` is singular ('method'); `table` maps each name to 'module:attribute'.
    """

    def __init__(self, kind: str, table: dict[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)
        self._external_loaded = False

    def names(self) -> list[str]:
        return sorted(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._table or name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def location(self, name: str) -> str:
        """'module:attribute' of a name. Raises RecipeError with the nearest name for an unknown one."""
        known = self._table if name in self._table else self._all()
        if name not in known:
            raise RecipeError(f"unknown {self.kind} '{name}'{did_you_mean(name, known)}")
        return known[name]

    def load(self, name: str) -> T:
        """The plug-in itself. Imports its module, and with it the library that it serves."""
        module_name, _, attribute = self.location(name).partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            raise EnvironmentProblem(
                f"{self.kind} '{name}' needs the package '{exc.name}', which is not installed; "
                f"install it with: pip install {exc.name}"
            ) from exc
        loaded: T = getattr(module, attribute)
        return loaded

    def _all(self) -> dict[str, str]:
        if not self._external_loaded:
            for point in entry_points(group=f"edgepack.{self.kind}"):
                self._table.setdefault(point.name, point.value)
            self._external_loaded = True
        return self._table
