"""The JSON Schemas of what users write and read, made from the models that check them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from edgepack.bundle.manifest import manifest_schema
from edgepack.methods import METHODS
from edgepack.recipe import Recipe
from edgepack.targets import TargetProfile

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema(methods: Iterable[str] | None = None) -> dict[str, Any]:
    """JSON Schema of edgepack.toml; a compression step has the options of its method. `methods`: all that are installed."""
    content = Recipe.model_json_schema()
    definitions = content["$defs"]
    names = list(METHODS if methods is None else methods)
    for name in names:
        definitions |= _step_definitions(name)
    definitions["CompressStep"] = {
        "description": definitions["CompressStep"]["description"],
        "type": "object",
        "required": ["method"],
        "discriminator": {
            "propertyName": "method",
            "mapping": {name: f"#/$defs/{_step_name(name)}" for name in names},
        },
        "oneOf": [{"$ref": f"#/$defs/{_step_name(name)}"} for name in names],
    }
    return {"$schema": _DRAFT, **content, "title": "edgepack.toml"}


def target_schema() -> dict[str, Any]:
    """JSON Schema of targets/<name>.toml."""
    return {"$schema": _DRAFT, **TargetProfile.model_json_schema()}


def shipped_methods() -> list[str]:
    """The methods of this package, whatever else is installed."""
    return [name for name in METHODS if METHODS.location(name).startswith("edgepack.")]


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "recipe": recipe_schema,
    "manifest": manifest_schema,
    "target": target_schema,
}


def _step_name(method: str) -> str:
    return f"CompressStep_{method}"


def _step_definitions(method: str) -> dict[str, Any]:
    """The method's options with its name among them, and the definitions that they use."""
    kind: Any = METHODS.load(method)
    options = kind.model_json_schema()
    definitions: dict[str, Any] = options.pop("$defs", {})
    name = {"const": method, "type": "string", "description": options.get("description", method)}
    return {
        **definitions,
        _step_name(method): {
            **options,
            "properties": {"method": name, **options.get("properties", {})},
            "required": ["method", *options.get("required", [])],
        },
    }
