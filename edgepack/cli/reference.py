"""Writes the reference page and the schema of the recipe from the models that read it: `python -m edgepack.cli.reference`."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgepack.bundle.manifest import manifest_schema
from edgepack.cli.schemas import recipe_schema, shipped_methods
from edgepack.cli.starter import toml_value
from edgepack.methods import METHODS
from edgepack.recipe import CompressStep, DataSection, PreprocessStep, Recipe
from edgepack.targets import TargetProfile

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
_HEAD = """\
# The recipe

What stands in `edgepack.toml`, or below `[tool.edgepack]` in `pyproject.toml`. `edgepack init` writes one to start from, with every
option in it. An unknown key, a missing one or a wrong type is an error that names the file, the key and the nearest known name.

This page is generated from the code by `python -m edgepack.cli.reference` (`make docs`). `recipe.schema.json` beside it is the same for
editors: with a TOML language server (Taplo; in VS Code "Even Better TOML") they complete and check a recipe whose first line is
`#:schema edgepack.schema.json`, after `edgepack schema > edgepack.schema.json`.

```toml
targets = ["arm64"]

[bundle]
name = "digits"
version = "1.0.0"

[model]
factory = "model:make"                # model.py beside the recipe
weights = "weights.safetensors"

[[model.inputs]]
name = "image"
shape = [1, 28, 28]
layout = "CHW"

[data]
calibration = "digits"                # calibration/digits.toml

[data.train]
provider = "digits"
split = "train"

[data.evaluation]
provider = "digits"
split = "test"

[[preprocess]]
op = "resize"
size = 28

[[preprocess]]
op = "to_float"
divide = 255.0

[[preprocess]]
op = "layout"
to = "CHW"

[[compress]]
method = "quantize"
mode = "qat"
train = { epochs = 5 }

[budget]
drop_points = 0.5
size_bytes = 250_000
```

Paths are relative to the recipe's folder.
"""
_TARGET = """\
## Targets

A target is a file, `targets/<name>.toml`, shipped with edgepack or in the folder `targets/` beside the recipe, which wins. It says what a
kind of device can do; `edgepack targets` lists them. Its keys:
"""
_ROLES = "`[data.train]`, `[data.calibration]` and `[data.evaluation]`"
_SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_COMMON = {
    DataSection: "The other keys are the provider's options: [data.md](data.md).",
    PreprocessStep: "The other keys are the step's options: [data.md](data.md).",
    CompressStep: "The other keys are the method's options, below; [methods.md](methods.md) explains them.",
}


def recipe_page() -> str:
    """docs/recipe.md."""
    parts = [_HEAD, "## The recipe's own keys\n\nBefore the first table.\n", _table(_plain_fields(Recipe))]
    for name, field in Recipe.model_fields.items():
        for model in sections_in(field.annotation):
            parts += _section(model, name, repeats=_repeats(field.annotation))
    known: set[type[BaseModel]] = set()
    for method in shipped_methods():
        kind: Any = METHODS.load(method)
        parts += [f'## `method = "{method}"`\n', _first_line(kind), _table(kind.model_fields.items())]
        shared = {one: key for key, field in kind.model_fields.items() for one in sections_in(field.annotation)}
        for model in sorted(shared.keys() - known, key=lambda one: one.__name__):
            key = shared[model]
            parts += _section(model, f"compress.{key}", title=f"`{key}` of a step", level=3)
        known |= shared.keys()
    parts += [_TARGET, _table(_plain_fields(TargetProfile))]
    for name, field in TargetProfile.model_fields.items():
        for model in sections_in(field.annotation):
            parts += _section(model, name, level=3)
    return "\n".join(parts).rstrip("\n") + "\n"


def recipe_schema_text() -> str:
    """docs/recipe.schema.json."""
    return json.dumps(recipe_schema(shipped_methods()), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both files."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        click.echo(f"docs/{name}")


def pages() -> dict[str, str]:
    """Every generated file of docs/ with its content."""
    manifest = json.dumps(manifest_schema(), indent=2) + "\n"
    return {"recipe.md": recipe_page(), "recipe.schema.json": recipe_schema_text(), "manifest.schema.json": manifest}


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The tables that a type can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def _section(
    model: type[BaseModel], place: str, *, title: str = "", repeats: bool = False, level: int = 2
) -> list[str]:
    """A heading, what the table is for, its keys, and the tables within it."""
    brackets = f"[[{place}]]" if repeats else f"[{place}]"
    lines = [f"{'#' * level} {title or f'`{brackets}`'}\n", _first_line(model)]
    if model in _COMMON:
        lines.append(_COMMON[model] + "\n")
    lines.append(_table(model.model_fields.items()))
    shown = set()
    for name, field in model.model_fields.items():
        for inner in sections_in(field.annotation):
            if inner not in shown:
                roles = _ROLES if inner is DataSection else ""
                lines += _section(
                    inner, f"{place}.{name}", title=roles, repeats=_repeats(field.annotation), level=level + 1
                )
                shown.add(inner)
    return lines


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0] + "\n"


def _plain_fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in model.model_fields.items() if not list(sections_in(field.annotation))]


def _repeats(annotation: Any) -> bool:
    return get_origin(annotation) is tuple and bool(list(sections_in(annotation)))


def _table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in fields:
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_kind(field)} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == () or value == {}:
        return ""
    return f"`{toml_value(value)}`"


def _kind(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field.metadata))
    return type_name(field.annotation) + (f" {bounds}" if bounds else "")


def type_name(annotation: Any) -> str:
    """A type as a TOML author thinks of it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = ", ".join(_bounds(inner[1:]))
        return type_name(inner[0]) + (f" {bounds}" if bounds else "")
    if origin is Literal:
        return " or ".join(f"`{toml_value(value)}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(one) for one in inner if one is not type(None))
    if origin is tuple:
        return f"list of {_listed(inner[0])}" if inner[-1] is ... else f"[{', '.join(map(type_name, inner))}]"
    if origin is dict:
        return f"table of {type_name(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {str: "text", int: "integer", float: "number", bool: "`true` or `false`"}.get(annotation, "any")


def _listed(annotation: Any) -> str:
    name = type_name(annotation)
    return f"({name})" if " or " in name else name


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for item in metadata:
        for name, sign in _SIGNS.items():
            if (bound := getattr(item, name, None)) is not None:
                yield f"{sign} {bound}"
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)


if __name__ == "__main__":
    main()
