"""What can be said of Swift without its compiler: tree-sitter's grammar of it, and which functions it calls with how many arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def tree_of(source: str) -> Any:
    """The root of the syntax tree."""
    import tree_sitter_swift
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_swift.language())).parse(source.encode()).root_node


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from nodes(child)


def mistakes(source: str) -> list[str]:
    """Where the grammar does not fit, by line."""
    found = (node for node in nodes(tree_of(source)) if node.is_error or node.is_missing)
    return [f"line {node.start_point[0] + 1}: {node.text.decode()[:60]!r}" for node in found]


def calls(source: str, prefix: str) -> set[tuple[str, int]]:
    """Functions whose names begin so, with the number of arguments of each call."""
    found = set()
    for node in nodes(tree_of(source)):
        if node.type == "call_expression" and (name := node.children[0].text.decode()).startswith(prefix):
            arguments = next(one for one in nodes(node.children[-1]) if one.type == "value_arguments")
            found.add((name, sum(one.type == "value_argument" for one in arguments.children)))
    return found


def declared(headers: list[Path], prefix: str) -> tuple[dict[str, int], set[str]]:
    """Functions of C headers with the number of their parameters, and types, whose names begin so."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in headers)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    functions = re.findall(rf"\b({prefix}\w+)\(([^)]*)\);", text)
    types = re.findall(rf"\}} ({prefix}\w+);", text)
    return {name: parameters.count(",") + 1 for name, parameters in functions}, set(types)


def own_functions(sources: list[str]) -> dict[str, set[tuple[str, ...]]]:
    """The functions of some files with the labels of their parameters: `func cut(_ crop: C)` is cut: ("_",)."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for source in sources:
        for node in nodes(tree_of(source)):
            if node.type != "function_declaration":
                continue
            name = next(child for child in node.children if child.type == "simple_identifier").text.decode()
            labels = [_first_word(child) for child in node.children if child.type == "parameter"]
            found.setdefault(name, set()).add(tuple(labels))
    return found


def own_calls(source: str, names: set[str]) -> set[tuple[str, tuple[str, ...]]]:
    """The calls of these functions, whatever they are called on, with the labels that are given."""
    found = set()
    for node in nodes(tree_of(source)):
        if node.type != "call_expression":
            continue
        name = re.findall(r"\w+", node.children[0].text.decode())[-1]
        arguments = [one for one in node.children[-1].children if one.type == "value_arguments"]
        if name in names and arguments:
            given = [one for one in arguments[0].children if one.type == "value_argument"]
            found.add((name, tuple(_label(one) for one in given)))
    return found


def _first_word(parameter: Any) -> str:
    return str(re.findall(r"\w+", parameter.text.decode())[0])


def _label(argument: Any) -> str:
    found = re.match(r"(\w+)\s*:", argument.text.decode())
    return found[1] if found else "_"
