"""How to measure: the bounds of a benchmark, and the suites that name them (`benchmarks/suites/<name>.toml`, where the file is the registration)."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from edgepack.core.errors import RecipeError, UsageError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "_shipped" / "suites", _PACKAGE.parent / "benchmarks" / "suites")
SHIPPED = next(folder for folder in _PLACES if folder.is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchProtocol:
    """How to measure: `repetitions` fresh processes per model, and the bounds of each. docs/benchmarking.md explains every one.

    A loop ends when both its minima are reached, or after `max_s` seconds of warm-up and measurement together. The warm-up goes on until its samples are
    stable, at most `warmup_max_s`. `timeout_s` kills a process that hangs. `cores` binds the process to those cores. With `cool_below_c` every process
    waits (at most `cool_timeout_s`) until the device is cooler. `retries` is how often a process is tried again after the device was lost.

    A run is void, and measured again (at most `repeats_max` times a model), when the device says that it was throttled (`void_if_throttled`), when its wall clock
    jumped by more than `void_clock_jump_s`, or when its load average per core was above `void_load_per_core`. Void runs are kept.
    """

    # pydantic reads the files of suites into this class.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    suite: str = "quick"
    description: str = ""
    repetitions: int = 5
    threads: int = 1
    cores: tuple[int, ...] | None = None
    warmup_min_iterations: int = 10
    warmup_min_s: float = 1.0
    warmup_max_s: float = 10.0
    iterations_min: int = 50
    duration_min_s: float = 2.0
    max_s: float = 60.0
    timeout_s: float = 300.0
    cool_below_c: float | None = None
    cool_timeout_s: float = 600.0
    retries: int = 2
    void_if_throttled: bool = True
    void_clock_jump_s: float = 1.0
    void_load_per_core: float | None = None
    repeats_max: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("repetitions", "threads", "iterations_min"):
            if getattr(self, name) < 1:
                raise UsageError(f"bench: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("retries", "repeats_max", "warmup_min_iterations", "warmup_min_s", "duration_min_s"):
            if getattr(self, name) < 0:
                raise UsageError(f"bench: {name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.max_s < self.timeout_s:
            raise UsageError(f"bench: need 0 < max_s < timeout_s, got {self.max_s} and {self.timeout_s}")


# What does not change a number, so that it may differ between results that are compared.
_FREE = (
    "suite",
    "description",
    "repetitions",
    "timeout_s",
    "cool_timeout_s",
    "retries",
    "repeats_max",
    "threads",
    "cores",
)


def conditions_of(protocol: BenchProtocol) -> dict[str, Any]:
    """The bounds that two comparable results share; threads and cores stand beside them in `records.Conditions`."""
    return {field.name: getattr(protocol, field.name) for field in fields(protocol) if field.name not in _FREE}


def suite_names() -> dict[str, Path]:
    """Every shipped suite by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.toml"))}


def load_suite(name: str, **changes: Any) -> BenchProtocol:
    """A suite by name, or of a `.toml` file of the user's, with some bounds changed (None leaves them).

    Raises UsageError for an unknown name, RecipeError for a file that is invalid.
    """
    from pydantic import TypeAdapter, ValidationError

    known = suite_names()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        raise UsageError(f"unknown suite '{name}'{did_you_mean(name, known)}; a file of your own ends in .toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"suite {path}: can't be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{path}: not valid TOML: {exc}") from exc
    if unknown := sorted(set(content) - {field.name for field in fields(BenchProtocol)}):
        names = [field.name for field in fields(BenchProtocol)]
        raise RecipeError(f"{path}: unknown key '{unknown[0]}'{did_you_mean(unknown[0], names)}")
    try:
        protocol = TypeAdapter(BenchProtocol).validate_json(json.dumps({"suite": path.stem, **content}))
    except ValidationError as exc:
        error = exc.errors()[0]
        raise RecipeError(f"{path}: {'.'.join(map(str, error['loc']))}: {error['msg']}") from None
    except UsageError as exc:
        raise RecipeError(f"{path}: {exc}") from None
    return replace(protocol, **{key: value for key, value in changes.items() if value is not None})
