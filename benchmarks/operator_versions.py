"""Which version of each operator an old runtime knows: the table of edgepack/exporters/litert_versions.py, asked of the real interpreter.

An interpreter looks every operator code of a file up before anything else, so a file with one code and nothing in it tells whether the runtime has that
version. Both the old runtime and the LiteRT of this environment are asked; the second says how far the search has to go.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from edgepack.core.errors import EnvironmentProblem
from edgepack.exporters.litert_versions import HIGHEST_VERSIONS
from edgepack.runtimes.tflite_runtime import TfliteRuntime

VERSIONS = 30  # the highest of any operator in LiteRT 2.3 is half of this
_OPEN_EACH = """
import json, sys
from {package}.interpreter import Interpreter
known = []
for path in map(str.strip, sys.stdin):
    try:
        Interpreter(model_path=path)
        known.append(path)
    except ValueError as exc:
        if "Registration failed" not in str(exc):
            raise
print(json.dumps(known))
"""


def run() -> None:
    """Print the table as it stands in the code, and whether the committed one is the same."""
    runtime = TfliteRuntime()
    try:
        name = f"tflite-runtime {'.'.join(runtime.version().split('.')[:2])}"
    except EnvironmentProblem as exc:
        print(f"left out: {exc}")
        return
    old = highest(runtime.interpreter(), "tflite_runtime")
    new = highest(sys.executable, "ai_edge_litert")
    print(f"{name}: {len(old)} operators")
    print(as_table(old))
    print(f"the committed table is {'the same' if HIGHEST_VERSIONS.get(name) == old else 'ANOTHER ONE'}")
    print("\nnewer in the LiteRT of this environment (0: not in the old one):")
    newer = {kind: (old.get(kind, 0), version) for kind, version in new.items() if version > old.get(kind, 0)}
    print(textwrap.fill(", ".join(f"{kind} {a} → {b}" for kind, (a, b) in sorted(newer.items())), 150))


def highest(python: str, package: str) -> dict[str, int]:
    """The highest version of each builtin operator that an interpreter's runtime knows."""
    found: dict[str, set[int]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        for kind, version, content in tiny_models():
            (Path(folder) / f"{kind}-{version}").write_bytes(content)
        files = "\n".join(str(file) for file in Path(folder).iterdir())
        command = [python, "-I", "-c", _OPEN_EACH.format(package=package)]
        answer = subprocess.run(command, input=files, capture_output=True, text=True, check=True, timeout=300).stdout
    for path in json.loads(answer):
        kind, _, version = Path(path).name.rpartition("-")
        found[kind].add(int(version))
    for kind, versions in found.items():
        assert versions == set(range(min(versions), max(versions) + 1)), f"{kind} has gaps: {sorted(versions)}"
        assert max(versions) < VERSIONS, f"{kind}: search further than {VERSIONS}"
    return {kind: max(versions) for kind, versions in sorted(found.items())}


def tiny_models() -> Iterator[tuple[str, int, bytes]]:
    """(operator, version, file) for every builtin operator of the schema; each file has that operator code and an empty graph."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    no_operators = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    for kind, code in vars(schema.BuiltinOperator).items():
        if not isinstance(code, int) or kind in no_operators:
            continue
        for version in range(1, VERSIONS + 1):
            operator = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)
            graph = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])
            model = schema.ModelT(
                version=3, operatorCodes=[operator], subgraphs=[graph], buffers=[schema.BufferT(data=None)]
            )
            builder = Builder(0)
            builder.Finish(model.Pack(builder), b"TFL3")
            yield kind, version, bytes(builder.Output())


def as_table(highest_versions: dict[str, int]) -> str:
    """'version: operators', one line a version, as `_table` reads it."""
    by_version: dict[int, list[str]] = defaultdict(list)
    for kind, version in highest_versions.items():
        by_version[version].append(kind)
    lines = [f"{version}: {' '.join(sorted(kinds))}" for version, kinds in sorted(by_version.items())]
    return "\n".join(textwrap.fill(line, 150, subsequent_indent="   ", break_on_hyphens=False) for line in lines)
