"""Which code files a network turned out to import, kept from one build to the next, so that a stage's key covers them before it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from edgepack.core.digest import digest_of
from edgepack.core.files import write_json
from edgepack.plan import BuildPlan, file_digests
from edgepack.store.cache import StageCache


def imports_file(plan: BuildPlan, cache: StageCache, origin: str) -> Path:
    """Where the imports of `origin`, a factory or a model file of the recipe, are kept."""
    return cache.root / "dependencies" / f"{digest_of([str(plan.folder), origin])[:20]}.json"


def remember_imports(plan: BuildPlan, cache: StageCache, origin: str, files: Iterable[Path]) -> None:
    """Keep them for `known_imports`."""
    write_json(imports_file(plan, cache, origin), [str(path) for path in files])


def known_imports(plan: BuildPlan, cache: StageCache, origin: str) -> tuple[Path, ...] | None:
    """The files of last time; None before the first load."""
    try:
        content = json.loads(imports_file(plan, cache, origin).read_text(encoding="utf-8"))
        return tuple(Path(item) for item in content)
    except (OSError, ValueError):
        return None


def code_digests(plan: BuildPlan, files: Iterable[Path]) -> list[list[str]]:
    """Name and digest of each file, without the place of the project or of Python: the same project has the same keys, and bundle, everywhere."""
    found = file_digests(tuple(sorted(set(files))))
    return sorted([_placeless(file, plan.folder), digest] for file, digest in found.items())


def _placeless(file: Path, folder: Path) -> str:
    roots = [folder, *sorted((Path(entry) for entry in sys.path if entry), key=lambda root: -len(root.parts))]
    return next((str(file.relative_to(root)) for root in roots if file.is_relative_to(root)), file.name)
