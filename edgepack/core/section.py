"""Validated settings: the base of everything a user writes in TOML, and the messages for what is wrong in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepack.core.errors import RecipeError, did_you_mean

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """A table of a TOML file: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def validate(model: type[S], content: Any, *, where: str) -> S:
    """A validated section, or a RecipeError that lists every mistake with its place."""
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        lines = [f"{where}: {_explain(model, error)}" for error in exc.errors()]
        raise RecipeError("\n".join(lines)) from None


def found_in(section: BaseModel, kind: type[S]) -> Iterator[tuple[str, S]]:
    """Every section of a kind within another one, at any depth, each with its place: 'train.teacher'."""
    for name, value in section:
        for place, inner in _sections_of(name, value):
            if isinstance(inner, kind):
                yield place, inner
            yield from ((f"{place}.{deeper}", one) for deeper, one in found_in(inner, kind))


def _sections_of(place: str, value: Any) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _sections_of(f"{place}.{name}", inner)
    elif isinstance(value, (tuple, list)):
        for index, inner in enumerate(value):
            yield from _sections_of(f"{place}.{index}", inner)


def _explain(model: type[BaseModel], error: Any) -> str:
    location = ".".join(str(part) for part in error["loc"] if part not in ("DataSection", "str", "tuple[str, ...]"))
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        return f"{'.'.join(map(str, parents)) or 'top level'}: unknown key '{key}'{did_you_mean(str(key), _keys_at(model, parents))}"
    if error["type"] == "missing":
        return f"{location}: this key is required and missing"
    shown = repr(error.get("input"))
    message = error["msg"].removeprefix("Value error, ")
    prefix = f"{location}: " if location else ""
    detail = "" if len(shown) > 80 or error["type"] == "value_error" else f", got {shown}"
    return f"{prefix}{message}{detail}"


def _keys_at(model: type[BaseModel], parents: list[Any]) -> list[str]:
    """The keys that a place in the recipe knows."""
    for part in parents:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        found = _section_in(model.model_fields[part].annotation)
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_in(inner)) is not None:
            return found
    return None
