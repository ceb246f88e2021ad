"""Who may import whom. The floors are those of docs/decisions/0003-floors.md; every exception is listed with its reason."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "edgepack"
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"core", "stats"}),
    frozenset(
        {"recipe", "targets", "grouping", "records", "suites"}
    ),  # what the user, the targets' files and a device say
    frozenset({"network", "codec", "bundle", "signing", "store", "layer_names"}),
    frozenset({"sources", "data", "methods", "exporters", "runtimes", "devices", "appkit", "layouts"}),
    frozenset({"plan", "stages", "updates"}),
    frozenset({"pipeline", "opened", "verified", "bench", "diff", "compare", "gate", "report", "tune", "explain"}),
    frozenset({"cli"}),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
PLUG_INS = FLOORS[3]
# On one floor, yet one reads the other.
NEIGHBOURS = {
    ("stages", "plan"): "every stage is handed the plan",
    ("signing", "bundle"): "a bundle is judged by its signatures",
    ("plan", "updates"): "a plan opens the bundle that its build updates",
    ("stages", "updates"): "what a plan can't know of the model is asked once it is loaded",
    ("diff", "opened"): "a bundle is opened in the runtime that the build verified it in",
    ("verified", "opened"): "the runtime and the device of a bundle are opened",
    ("verified", "bench"): "golden samples reach a device as evaluation samples do",
    ("opened", "bench"): "a bundle is measured",
    ("gate", "opened"): "the models of a gate's bundles",
    ("gate", "bench"): "a gate measures with the same bench that a user calls",
    ("gate", "compare"): "a gate judges what a comparison finds",
    ("tune", "pipeline"): "a search ends with the build of what it recommends",
    ("tune", "bench"): "a search measures with the same bench that a user calls",
    ("tune", "report"): "a search draws its picture as reports draw theirs",
    ("explain", "bench"): "layers are timed by the bench that a user calls",
    ("explain", "opened"): "the original lies in the work folder of the bundle's build",
    ("explain", "tune"): "the bytes of a step on the wire are counted as a search counts them",
    ("explain", "report"): "its page has the report's style, and draws with the same axes",
    ("pipeline", "bench"): "the build measures budgets with the same bench that a user calls",
}
# Files of plug-in rooms that others may import beside the table (`__init__`) and the protocol.
OPEN_FILES = {
    "appkit.make": "the making of any app kit, for the command line",
    "layouts.make": "the writing of any layout, and the way back, for the command line",
    "layouts.reference": "addresses of artifacts, for the command line",
    "layouts.registry": "what is pushed, for the command line",
    "data.samples": "the reading of any provider's samples: stages ask it, never a provider",
    "data.answers": "what a model's outputs mean, for the plan and for the bundle",
    "data.fingerprint": "the digest of any provider's samples, for the plan",
    "data.sections": "a data table of the recipe resolved to its provider, for the plan and the command line",
    "devices.adb_client": "the adb program, for the transport and for the list of devices",
    "devices.inventory": "a team's devices by name: what a transport must know of its device",
    "devices.known": "which devices there are to name, for the command line",
    "devices.native": "LiteRT's own benchmark program, which a bench asks where a device has no Python",
    "devices.native_output": "what that program prints",
    "devices.probe": "what a device is and has, by any transport",
    "devices.leftovers": "whose a private folder on a device is, for every transport to another machine",
    "devices.shell": "what is asked of a device's shell, for every transport to another machine",
    "devices.address": "the device of an address or of a team's name: a gate and a bench open it",
    "devices.agent": "how any transport runs the agent: bench asks it, never a transport",
    "methods.fine_tune": "the training that methods share, never what one of them does",
    "sources.networks": "a student's or a teacher's code: the plan and the stages ask it, never the source of factories",
    "sources.signature": "what every source that reads a file shares, never what one of them does",
    "runtimes.grid": "codes from real values and back, for golden samples",
}
HEAVY = (
    "torch",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "keras",
    "litert_torch",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "sklearn",
    "jax",
    "tensorflow",
    "scipy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import of ours: both module names without 'edgepack.', and whether it only serves types."""

    by: str
    of: str
    line: int
    is_for_types: bool
    is_in_function: bool

    @property
    def rooms(self) -> tuple[str, str]:
        return self.by.partition(".")[0], self.of.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.by} (line {self.line}) imports {self.of}"


def imports() -> list[Import]:
    found: list[Import] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        typed = _inside(tree, lambda node: isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        late = _inside(tree, lambda node: isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
        for node in ast.walk(tree):
            for name in _names(node):
                found.append(
                    Import(
                        by=module.removesuffix(".__init__"),
                        of=name.removeprefix("edgepack").removeprefix("."),
                        line=node.lineno,  # type: ignore[attr-defined]
                        is_for_types=id(node) in typed,
                        is_in_function=id(node) in late,
                    )
                )
    return found


def _inside(tree: ast.AST, condition: object) -> set[int]:
    return {id(inner) for node in ast.walk(tree) if condition(node) for inner in ast.walk(node)}  # type: ignore[operator]


def _names(node: ast.AST) -> list[str]:
    """The modules of ours that an import statement means: `from edgepack.data import samples` means edgepack.data.samples."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        names = [
            f"{node.module}.{alias.name}" if _is_module(f"{node.module}.{alias.name}") else node.module
            for alias in node.names
        ]
    else:
        names = []
    return [name for name in names if name.partition(".")[0] == "edgepack"]


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


ALL = imports()


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}

    assert rooms - {"__init__", "__main__", "agent"} == set(FLOOR)


def test_nobody_imports_upwards_or_sideways() -> None:
    wrong = [
        str(found)
        for found in ALL
        for by, of in [found.rooms]
        if by in FLOOR and of in FLOOR and by != of and not found.is_for_types
        if FLOOR[of] > FLOOR[by] or (FLOOR[of] == FLOOR[by] and (by, of) not in NEIGHBOURS and FLOOR[by] > 1)
    ]

    assert wrong == []


def test_even_for_types_nobody_imports_upwards() -> None:
    wrong = [
        str(found) for found in ALL for by, of in [found.rooms] if by in FLOOR and of in FLOOR and FLOOR[of] > FLOOR[by]
    ]

    assert wrong == []


def test_the_agent_imports_nothing_of_ours() -> None:
    assert [str(found) for found in ALL if found.rooms[0] == "agent" and found.rooms[1] != "agent"] == []
    assert {found.of for found in ALL if found.by.startswith("agent.")} == set()


def test_only_the_data_room_imports_the_agent_and_only_what_bundles_ship() -> None:
    """The same files prepare samples here, in training and on the device, and say what outputs mean."""
    users = {(found.by, found.of) for found in ALL if found.rooms[1] == "agent" and found.rooms[0] != "agent"}

    assert {by for by, _ in users} == {"data.samples", "data.answers"}
    assert {of for _, of in users} <= {"agent.preprocess", "agent.postprocess", "agent"}


def test_plug_ins_are_reached_by_their_table_never_by_their_file() -> None:
    wrong = []
    for found in ALL:
        by, of = found.rooms
        file = found.of.partition(".")[2]
        if (
            of in PLUG_INS
            and by != of
            and file not in ("", "protocol", "address", "provision")
            and found.of not in OPEN_FILES
        ):
            wrong.append(str(found))

    assert wrong == []


def test_the_listed_exceptions_are_used() -> None:
    used = {found.of for found in ALL}

    assert set(OPEN_FILES) <= used
    assert set(NEIGHBOURS) <= {found.rooms for found in ALL}


def test_one_methods_source_or_provider_does_not_import_another() -> None:
    for room in ("methods", "sources", "devices"):
        files = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__", "protocol", "address"}
        plug_ins = {f"{room}.{name}" for name in files} - set(OPEN_FILES)
        wrong = [str(found) for found in ALL if found.by in plug_ins and found.of in plug_ins]
        assert wrong == []


def test_data_providers_do_not_import_each_other() -> None:
    providers = {"data.digits", "data.idx", "data.image_folder", "data.npz", "data.python"}

    assert [str(found) for found in ALL if found.by in providers and found.of in providers] == []


@pytest.mark.parametrize(
    "room",
    [
        "cli",
        "plan",
        "recipe",
        "targets",
        "core",
        "bundle",
        "store",
        "methods",
        "sources",
        "devices",
        "report",
        "appkit",
    ],
)
def test_importing_a_light_room_loads_no_heavy_library(room: str) -> None:
    """A room with several files is imported with all of them."""
    folder = PACKAGE / room
    modules = [f"edgepack.{room}"]
    if folder.is_dir():
        modules += [f"edgepack.{room}.{file.stem}" for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]

    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()

    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_the_pipeline_can_be_imported_without_a_heavy_library() -> None:
    code = "import sys, edgepack.pipeline; print(*sys.modules, sep='\\n')"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()

    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)
