from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PTQ, Project

from edgepack.core.errors import EnvironmentProblem
from edgepack.runtimes import RUNTIMES
from edgepack.targets import load_target, target_names

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="session")
def documented() -> Callable[..., bool]:
    """Whether a name is written in some page of docs/: as code, or `as_word` in any spelling of its case."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(DOCS.rglob("*.md")))

    def has(name: str, *, as_word: bool = False) -> bool:
        if as_word:
            return re.search(rf"(?i)\b{re.escape(name)}\b", text) is not None
        return re.search(rf"[`\"']{re.escape(name)}[`\"'.]", text) is not None

    return has


@pytest.fixture(scope="session")
def needs_runtime() -> Callable[[str], None]:
    """Skips a test where a runtime is not installed: only those that live outside edgepack's own environment may be missing."""

    def check(name: str) -> None:
        try:
            RUNTIMES.load(name)().version()
        except EnvironmentProblem as exc:
            pytest.skip(f"runtime {name}: {exc}")

    return check


@pytest.fixture(scope="session")
def model_for(tmp_path_factory: pytest.TempPathFactory, project_files: Project) -> Callable[[str], Path]:
    """The int8 model of the small project for a runtime, in the format of the first target that it serves; one build for each of these."""
    from edgepack.pipeline import build

    made: dict[str, Path] = {}

    def get(runtime: str) -> Path:
        target = next(name for name in sorted(target_names()) if load_target(name).runtime == runtime)
        if target not in made:
            project = project_files.copy(tmp_path_factory.mktemp("model") / "project")
            project.write_recipe(PTQ)
            build(project.folder, target=target)
            made[target] = next((project.work / "stages").glob("export-*"))
        folder = made[target]
        return folder / json.loads((folder / "export.json").read_text())["file"]

    return get
