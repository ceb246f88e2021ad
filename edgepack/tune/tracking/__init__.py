"""Where else a search's trials are written, for teams that look at them in a tool of their own. One file a tool, one line here; off by default."""

from __future__ import annotations

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.registry import Registry
from edgepack.tune.tracking.protocol import OpenTracker, Search, Tracker

TRACKERS: Registry[OpenTracker] = Registry(
    "tracker",
    {
        "tensorboard": "edgepack.tune.tracking.tensorboard:TensorBoard",
        "mlflow": "edgepack.tune.tracking.mlflow:MlFlow",
    },
)

__all__ = ["TRACKERS", "Search", "Tracker", "load_trackers"]


def load_trackers(names: tuple[str, ...]) -> list[OpenTracker]:
    """The trackers of these names. Raises RecipeError for an unknown one, EnvironmentProblem where its package is not installed."""
    found = []
    for name in names:
        TRACKERS.location(name)
        try:
            found.append(TRACKERS.load(name))
        except (ImportError, EnvironmentProblem) as exc:
            reason = exc.__cause__ if isinstance(exc, EnvironmentProblem) else exc
            raise EnvironmentProblem(
                f"tune.track: {name} can't be used ({reason}); install what it needs: pip install 'edgepack[tune-tracking]', or leave it out"
            ) from exc
    return found
