"""Each compression method alone, and the combinations that `edgepack tune` begins with, under the budget of page `tune`, trained in full.

Every one is aimed at the size as a search aims it: how strong it is follows from what the packed model may take, and is corrected and trained again where the
packed model took more. It trains on all training samples for as long as a search's full trainings do, and is judged on the test images.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.places import cases
from benchmarks.tune import BUDGET, fashion_mnist, judge_on_test_images
from edgepack.core.types import Silent
from edgepack.recipe import CompressStep, load_recipe
from edgepack.tune.before import informed
from edgepack.tune.measure import Judge
from edgepack.tune.numbers import Numbers
from edgepack.tune.space import in_words, searched_methods
from edgepack.tune.suggest import NONE, Fixed, Space

_ATTEMPTS = 3
_AIM = 0.98  # of the size
# Together with rounding to int8. Palettize's size is a matter of whole bits, so it is tried with those that may fit; 4 bits alone are `quantize`'s own.
_ALONE: tuple[Mapping[str, Any], ...] = (
    {"weights": "prune_entropy"},
    {"weights": "prune_magnitude"},
    {"channels": "prune_channels"},
    {"factors": "low_rank"},
    {"sharing": "palettize", "palettize.bits": 3},
    {"sharing": "palettize", "palettize.bits": 2},
    {"quantize.mode": "qat", "quantize.weights_bits": 4, "quantize.int4_share": 1.0},
)
_TOGETHER: tuple[Mapping[str, Any], ...] = (
    {"weights": "prune_entropy", "order": "sort_channels"},
    {"channels": "prune_channels", "weights": "prune_entropy", "order": "sort_channels"},
    {"weights": "prune_magnitude", "sharing": "palettize", "order": "sort_channels"},
)


def run() -> None:
    """Print one row for each, as soon as it is known; EDGEPACK_BENCHMARK_METHOD keeps those whose methods have it in their names."""
    if not any(case.name == "fashion_mnist" for case in cases()):
        return
    with tempfile.TemporaryDirectory() as scratch:
        project = fashion_mnist(Path(scratch) / "fashion_mnist")
        recipe = load_recipe(project / "edgepack.toml").model_copy(update={"tune": BUDGET})
        threads = int(os.environ.get("EDGEPACK_BENCHMARK_THREADS", "0")) or None
        judge = judge_on_test_images(recipe, project, threads=threads)
        space = Space(recipe=recipe, methods=searched_methods(recipe), samples=judge.training_samples())
        start = next(space.starts())
        rounding = space.suggest(Fixed(start))
        judge.original(rounding, Silent())
        space = informed(space, judge, rounding, Silent())
        print(
            "| | steps | packed, bytes | points lost on the test images | minutes |\n|---|---|---|---|---|", flush=True
        )
        for kind, values in _wanted():
            began = time.monotonic()
            steps, numbers = fitted(space, judge, {**_nothing(space), **values})
            over = "" if _fits(judge, numbers) else ", over the size"
            minutes = (time.monotonic() - began) / 60
            print(
                f"| {kind}{over} | {in_words(steps)} | {numbers.wire_bytes:,} | {numbers.drop_points:+.2f} | {minutes:.1f} |",
                flush=True,
            )


def _wanted() -> Iterator[tuple[str, Mapping[str, Any]]]:
    only = os.environ.get("EDGEPACK_BENCHMARK_METHOD", "")
    for kind, some in (("alone", _ALONE), ("together", _TOGETHER)):
        yield from ((kind, values) for values in some if only in " ".join(map(str, [*values, *values.values()])))


def _nothing(space: Space) -> dict[str, Any]:
    """Every option as a search begins with it, and no method but rounding."""
    values: dict[str, Any] = {}
    for start in space.starts():
        values = {**start, **values}
    chosen = dict.fromkeys(("channels", "factors", "weights", "sharing", "order"), NONE)
    return {**values, **chosen, "aim": _AIM}


def fitted(space: Space, judge: Judge, values: Mapping[str, Any]) -> tuple[tuple[CompressStep, ...], Numbers]:
    """A combination with the strength with which it keeps the size; what it is and what it gives."""
    assert space.guess is not None
    steps = space.suggest(Fixed(values))
    numbers = judge.numbers(steps, Silent())
    for _ in range(_ATTEMPTS - 1):
        seen = [(steps, space.guess.bytes_of(steps, corrected=False), numbers.wire_bytes)]
        space = replace(space, guess=space.guess.corrected(seen))
        again = space.suggest(Fixed(values))
        if _fits(judge, numbers) or again == steps:
            break
        steps, numbers = again, judge.numbers(again, Silent())
    return steps, numbers


def _fits(judge: Judge, numbers: Numbers) -> bool:
    return judge.budget.size_bytes is None or judge.budget.size(numbers) <= judge.budget.size_bytes
