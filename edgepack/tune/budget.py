"""The budget of a search: what is over it and by how much, and which of two combinations within it is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.core.errors import RecipeError
from edgepack.recipe import Recipe, TuneSection
from edgepack.tune.numbers import Numbers

_DROP_UNIT_POINTS = 0.5  # so that a limit of 0 points has a scale, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A limit that is not kept. `share_over` is by how much, as a share of the limit."""

    name: str
    value: float
    limit: float
    share_over: float

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.6g}, limit {self.limit:.6g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits; None is no limit."""

    size_bytes: int | None
    size_of: Literal["wire", "file"]
    drop_points: float | None
    latency_p50_ms: float | None
    peak_memory_bytes: int | None

    @property
    def measures(self) -> bool:
        """Whether a device must be asked."""
        return self.latency_p50_ms is not None or self.peak_memory_bytes is not None

    def size(self, numbers: Numbers) -> int:
        """The size that the budget speaks of."""
        return numbers.wire_bytes if self.size_of == "wire" else numbers.file_bytes

    def objectives(self, numbers: Numbers) -> tuple[float, ...]:
        """What the search makes small: bytes, points, and milliseconds where they are limited."""
        speed = () if self.latency_p50_ms is None else (numbers.latency_p50_ms or 0.0,)
        return (float(self.size(numbers)), numbers.drop_points, *speed)

    def constraints(self, numbers: Numbers) -> dict[str, float]:
        """How far each limit is exceeded, as a share of it; zero or less where it is kept."""
        found = {}
        for name, value, limit in self._limits(numbers):
            scale = max(limit, _DROP_UNIT_POINTS) if name == "drop_points" else limit
            found[name] = (value - limit) / scale
        return found

    def shortfalls(self, numbers: Numbers) -> tuple[Shortfall, ...]:
        """The limits that are not kept."""
        over = self.constraints(numbers)
        return tuple(
            Shortfall(name=name, value=value, limit=limit, share_over=over[name])
            for name, value, limit in self._limits(numbers)
            if over[name] > 0
        )

    def rank(self, numbers: Numbers) -> tuple[float, float, float]:
        """Smaller is better: first what is over the budget, then the points, or the bytes where these are not limited and points are."""
        over = sum(max(0.0, value) for value in self.constraints(numbers).values())
        size, drop = float(self.size(numbers)), numbers.drop_points
        return (over, size, drop) if self.size_bytes is None and self.drop_points is not None else (over, drop, size)

    def _limits(self, numbers: Numbers) -> list[tuple[str, float, float]]:
        named = (
            ("size_bytes", float(self.size(numbers)), self.size_bytes),
            ("drop_points", numbers.drop_points, self.drop_points),
            ("latency_p50_ms", numbers.latency_p50_ms, self.latency_p50_ms),
            ("peak_memory_bytes", numbers.peak_memory_bytes, self.peak_memory_bytes),
        )
        return [
            (name, float(value), float(limit))
            for name, value, limit in named
            if value is not None and limit is not None
        ]


def budget_of(tune: TuneSection) -> Budget:
    """The budget of a recipe's [tune]. Raises RecipeError where nothing is limited."""
    if tune.max_size is None and tune.max_drop_points is None and tune.max_latency_p50_ms is None:
        raise RecipeError(
            "tune: no budget to search for; give max_size, max_drop_points or max_latency_p50_ms in [tune], or --max-size, "
            "--max-drop-points or --max-latency-p50-ms"
        )
    return Budget(
        size_bytes=tune.max_size,
        size_of=tune.size_of,
        drop_points=tune.max_drop_points,
        latency_p50_ms=tune.max_latency_p50_ms,
        peak_memory_bytes=tune.max_memory,
    )


def with_limits(recipe: Recipe, budget: Budget) -> Recipe:
    """The recipe with a search's limits in its own budget, so that its build checks them; wire bytes have no place there."""
    limits = {
        "drop_points": budget.drop_points,
        "size_bytes": budget.size_bytes if budget.size_of == "file" else None,
        "latency_p50_ms": budget.latency_p50_ms,
        "peak_memory_bytes": budget.peak_memory_bytes,
    }
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update=given)})


def limits_of(budget: Budget) -> list[tuple[str, float]]:
    """The limits that there are, by the names that the recipe's [tune] has for them."""
    size = "max_size" if budget.size_of == "wire" else "max_size of the file"
    named = (
        (size, budget.size_bytes),
        ("max_drop_points", budget.drop_points),
        ("max_latency_p50_ms", budget.latency_p50_ms),
        ("max_memory", budget.peak_memory_bytes),
    )
    return [(name, float(limit)) for name, limit in named if limit is not None]
