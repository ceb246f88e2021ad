"""What a build would do: its stages in order, which are done, and how long each took the last time.

Keys follow from the plan alone, so nothing runs and no heavy library is loaded. What follows the layer comparison (judging, parity, packing)
takes seconds and is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepack.methods.protocol import networks_of, student_of
from edgepack.plan import BuildPlan
from edgepack.stages.compress import step_key
from edgepack.stages.divergence import layers_key
from edgepack.stages.evaluate import outputs_keys
from edgepack.stages.export import adopt_key, baseline_key, export_key
from edgepack.stages.load import known_key
from edgepack.stages.networks import known_network_keys
from edgepack.store.cache import StageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutline:
    """One stage of a build. `targets` are those that it serves; `last_seconds` is how long it, or else the latest of its kind, took; None when never."""

    stage: str
    targets: tuple[str, ...]
    is_done: bool
    last_seconds: float | None
    key: str | None


def outline(plans: Sequence[BuildPlan], cache: StageCache) -> tuple[StageOutline, ...]:
    """Every stage of a build once, in order. Before the model was loaded for the first time, later keys are unknown (None)."""
    entries = cache.entries()
    durations = {entry.key: entry.seconds for entry in entries}
    latest = {entry.stage: entry.seconds for entry in reversed(entries)}
    found: dict[tuple[str, object], StageOutline] = {}
    for plan in plans:
        for stage, key in _stages(plan, cache):
            # Without a key, all that is known is which targets will share the stage.
            identity = key or (plan.grid_targets if stage not in _PER_TARGET else plan.target_name)
            known = found.get((stage, identity))
            found[stage, identity] = StageOutline(
                stage=stage,
                targets=(*(known.targets if known else ()), plan.target_name),
                is_done=key is not None and cache.find(stage, key) is not None,
                last_seconds=durations.get(key or "", latest.get(stage)),
                key=key,
            )
    return tuple(sorted(found.values(), key=lambda one: _ORDER.get(one.stage, _ORDER["compress"])))


def _stages(plan: BuildPlan, cache: StageCache) -> Iterator[tuple[str, str | None]]:
    """The stages of one target with their keys, None where a key depends on what was not loaded yet."""
    if plan.source.abilities.finished:
        finished = adopt_key(plan)
        yield "export", finished
        yield from (("outputs", key) for key in outputs_keys(plan, None, None, finished))
        return
    loaded = known_key(plan, cache)
    yield "load", loaded
    yield "baseline", loaded and baseline_key(plan, loaded)
    yield from _networks(plan, cache)
    current = loaded
    for name, method in plan.steps:
        networks = known_network_keys(plan, cache, method)
        current = None if current is None or networks is None else step_key(plan, current, name, method, networks)
        yield name, current
    exported = current and export_key(plan, current)
    yield "export", exported
    if loaded and current and exported:
        for key in outputs_keys(plan, loaded, current, exported):
            yield "outputs", key
    else:
        yield "outputs", None
    yield "layers", exported and layers_key(plan, exported)


def _networks(plan: BuildPlan, cache: StageCache) -> Iterator[tuple[str, str | None]]:
    """The students and teachers of the steps, and the student as its target would run it, which is asked before any training."""
    for _, method in plan.steps:
        keys = known_network_keys(plan, cache, method)
        for index in range(len(networks_of(method))):
            yield "network", None if keys is None else keys[index]
        if student_of(method) is not None:
            yield "baseline", None if keys is None else baseline_key(plan, keys[0], is_student=True)


_PER_TARGET = {"baseline", "export", "outputs", "layers"}
_ORDER = {"load": 0, "network": 0, "baseline": 1, "compress": 2, "export": 3, "outputs": 4, "layers": 5}
