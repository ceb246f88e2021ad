"""The recommended recipe as a file: the whole recipe with the steps that were found, and their numbers as comments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.core.files import write_atomic
from edgepack.recipe import CompressStep, Recipe, load_recipe
from edgepack.tune.budget import Budget, limits_of
from edgepack.tune.front import Row
from edgepack.tune.numbers import Numbers

NAME = "edgepack.tuned.toml"
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def write_tuned(recipe: Recipe, steps: Sequence[CompressStep], path: Path, *, comments: Sequence[str]) -> Recipe:
    """Write the recipe and read it back. Paths in it are relative, so it belongs beside the recipe that it was made from."""
    tuned = recipe.model_copy(update={"compress": tuple(steps)})
    content = tuned.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    content["compress"] = [{"method": step.method, **step.options()} for step in steps]
    head = "".join(f"# {line}\n" for line in comments)
    write_atomic(path, (head + "\n" + toml_of(content)).encode())
    return load_recipe(path)


def told_in_recipe(row: Row, final: Numbers, original: Numbers, budget: Budget) -> list[str]:
    """What stands above a recommended recipe."""
    chosen = row.numbers
    lines = [
        "Written by `edgepack tune`, which replaces it when it is run again: keep a copy under another name to change it.",
        f"Budget: {', '.join(f'{name} {limit:,.12g}' for name, limit in limits_of(budget))}.",
        f"Steps: {row.words}",
        f"On {final.samples:,} evaluation samples: {100 * final.accuracy:.2f} %, {final.drop_points:+.2f} points lost; the original has "
        f"{100 * (final.accuracy + final.drop_points / 100):.2f} %.",
        f"On the {chosen.samples:,} samples that it was chosen by: {chosen.drop_points:+.2f} points lost.",
        f"Model file {final.file_bytes:,} bytes, packed {final.wire_bytes:,}; the original {original.file_bytes:,} and {original.wire_bytes:,}.",
    ]
    if final.latency_p50_ms is not None:
        lines.append(
            f"Median latency {final.latency_p50_ms:.4g} ms; the original {original.latency_p50_ms or 0:.4g} ms."
        )
    return lines


def toml_of(content: Mapping[str, Any]) -> str:
    """TOML of a table: values first, then a table for each table in it, then tables of lists of tables; what lies deeper stays in a line.

    >>> print(toml_of({"seed": 0, "compress": [{"method": "quantize"}], "budget": {"drop_points": 1.0}}), end="")
    seed = 0
    <BLANKLINE>
    [budget]
    drop_points = 1.0
    <BLANKLINE>
    [[compress]]
    method = "quantize"
    """
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in content.items() if _is_list_of_tables(value)}
    lines = [_pair(key, value) for key, value in content.items() if key not in tables and key not in lists]
    for key, table in tables.items():
        lines += ["", f"[{_key(key)}]", *(_pair(*pair) for pair in table.items())]
    for key, items in lists.items():
        for item in items:
            lines += ["", f"[[{_key(key)}]]", *(_pair(*pair) for pair in item.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _pair(key: str, value: Any) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if _BARE.match(key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(_pair(*pair) for pair in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
