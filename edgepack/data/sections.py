"""From a data table of the recipe to a provider that is ready to be asked."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from edgepack.core.errors import EdgepackError, RecipeError, did_you_mean
from edgepack.core.section import validate
from edgepack.data import PROVIDERS
from edgepack.data.protocol import Provider
from edgepack.recipe import DataSection

_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = _PACKAGE / "_shipped" / "calibration"
if not SHIPPED.is_dir():  # a checkout
    SHIPPED = _PACKAGE.parent / "calibration"
_OWN_FIELD = "recipe_folder"


def calibration_names(project: Path | None = None) -> dict[str, Path]:
    """Every calibration file by name: the shipped ones, and a project's own `calibration/` folder, which wins."""
    folders = [SHIPPED] + ([project / "calibration"] if project is not None else [])
    return {file.stem: file for folder in folders if folder.is_dir() for file in sorted(folder.glob("*.toml"))}


def resolve_section(section: DataSection | str, *, folder: Path) -> DataSection:
    """The table itself, where the recipe gives the name of a calibration file; a table is returned as it is.

    Raises RecipeError for an unknown name or an invalid file. Paths in the file are relative to `folder`, the recipe's.
    """
    if isinstance(section, DataSection):
        return section
    files = calibration_names(folder)
    if section not in files:
        raise RecipeError(f"unknown calibration file '{section}'{did_you_mean(section, files)}")
    try:
        content = tomllib.loads(files[section].read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{files[section]}: not valid TOML: {exc}") from exc
    return validate(DataSection, content, where=f"calibration/{files[section].name}")


def open_provider(section: DataSection | str, *, folder: Path, role: str | None = None) -> Provider:
    """The provider of a data table with its options checked; no file is touched yet.

    `role` (train, calibration or evaluation) is named in errors. Raises RecipeError for an unknown provider or
    option, with the nearest name, and for a missing one or one of a wrong type.
    """
    with named(role):
        table = resolve_section(section, folder=folder)
        provider = PROVIDERS.load(table.provider)
        where = f"provider '{table.provider}'"
        options = _checked(provider, table.options(), where=where)
        try:
            return provider(**{_OWN_FIELD: folder, **options})
        except ValueError as exc:
            raise RecipeError(f"{where}: {exc}") from exc


def options_of(provider: Provider) -> dict[str, Any]:
    """Every option of a provider with its value, defaults included, as JSON can hold it."""
    fields = (field.name for field in dataclasses.fields(provider) if field.name != _OWN_FIELD)  # type: ignore[arg-type]  # a Provider is a dataclass by contract
    return {name: _plain(getattr(provider, name)) for name in fields}


@contextmanager
def named(role: str | None) -> Iterator[None]:
    """Put the data table's name before the message of every error of ours."""
    try:
        yield
    except EdgepackError as exc:
        prefix = f"data.{role}: "
        if role is None or str(exc).startswith(prefix):
            raise
        raise type(exc)(f"{prefix}{exc}") from exc


def _checked(provider: type[Provider], options: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(provider) if field.name != _OWN_FIELD}  # type: ignore[arg-type]  # as above
    types = get_type_hints(provider)
    for name in options:
        if name not in fields:
            raise RecipeError(f"{where}: unknown option '{name}'{did_you_mean(name, fields) or ' (it has no options)'}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in options:
            raise RecipeError(f"{where}: option '{name}' is required and missing")
    return {name: _of_type(types[name], value, where=f"{where}: option '{name}'") for name, value in options.items()}


def _of_type(kind: Any, value: Any, *, where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as exc:
        raise RecipeError(f"{where}: {exc.errors()[0]['msg']}, got {value!r}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
