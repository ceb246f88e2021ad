"""Networks of the user's code beside the model: a student, a teacher. Read as a factory's model is, and checked before anything runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepack.core.errors import EdgepackError, SourceError, did_you_mean
from edgepack.recipe import InputSection, ModelSection, NetworkSection
from edgepack.sources import SOURCES
from edgepack.sources.protocol import Source

_OF_THE_SECTION = ("model.factory", "model.weights")


def open_network(section: NetworkSection, folder: Path, *, inputs: tuple[InputSection, ...], seed: int) -> Source:
    """The source of a network that takes the model's `inputs`; `seed` is that of its fresh values. It has read nothing yet."""
    kind: Any = SOURCES.load("torch_factory")
    source: Source = kind(section=ModelSection(**section.model_dump(), inputs=inputs), folder=folder, seed=seed)
    return source


def check_network(section: NetworkSection, source: Source, *, where: str) -> None:
    """Find the files, the function in its module and its parameters, without running any code.

    Raises SourceError for what is missing, and for `args` that the function doesn't take.
    """
    with named_network(where):
        file = source.files()[0]
        function = section.factory.partition(":")[2]
        definitions = _definitions(file)
        if definitions is None:
            return
        if function not in definitions:
            raise SourceError(
                f"model.factory: {file.name} has no function '{function}'{did_you_mean(function, definitions)}"
            )
        _refuse_args(section, definitions[function], f"{file.name}'s {function}")


@contextmanager
def named_network(where: str) -> Iterator[None]:
    """Errors of the source name the table of this network, `where`, instead of the recipe's `[model]`."""
    try:
        yield
    except EdgepackError as exc:
        text = str(exc)
        own = text.startswith(_OF_THE_SECTION)
        raise type(exc)(f"{where}.{text.removeprefix('model.')}" if own else f"{where}: {text}") from exc


def _definitions(file: Path) -> dict[str, ast.stmt] | None:
    """What a module defines at its top, by name; None where that can't be told without running it."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as exc:
        raise SourceError(f"model.factory: {file.name}, line {exc.lineno}: {exc.msg}; mend the file") from exc
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id: node for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        elif not isinstance(node, ast.Expr):
            return None  # conditional definitions
    return None if "*" in found else found


def _refuse_args(section: NetworkSection, definition: ast.stmt, told: str) -> None:
    """Raises SourceError for arguments that a function, or a class's own constructor, can't be called with."""
    if isinstance(definition, ast.ClassDef):
        own = [one for one in definition.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if not own or definition.decorator_list:
            return
        definition = own[0]
        taken = definition.args.args[1:]
    elif isinstance(definition, ast.FunctionDef):
        taken = definition.args.args
    else:
        return
    if definition.decorator_list:
        return
    own_args = definition.args
    names = [one.arg for one in (*taken, *own_args.kwonlyargs)]
    for name in section.args:
        if name not in names and own_args.kwarg is None:
            raise SourceError(
                f"model.factory: {told} takes no argument '{name}'{did_you_mean(name, names)}; correct args"
            )
    count = len(taken) - len(own_args.defaults)
    required = [one.arg for one in taken[: max(0, count)]]
    required += [one.arg for one, value in zip(own_args.kwonlyargs, own_args.kw_defaults, strict=True) if value is None]
    missing = [name for name in required if name not in section.args]
    if missing:
        raise SourceError(f"model.factory: {told} needs the argument '{missing[0]}'; give it in args")
