"""Latency of what is being compressed, measured with the target's own runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_project import Project

from edgepack.core.errors import EnvironmentProblem
from edgepack.core.types import Silent
from edgepack.network.channels.narrowing import Narrowing, narrower
from edgepack.plan import make_plan, make_plans
from edgepack.stages.compress import step_key
from edgepack.stages.export import baseline
from edgepack.stages.latency import LatencyMeter
from edgepack.stages.load import load
from edgepack.store.cache import StageCache

SLIM = '[[compress]]\nmethod = "prune_channels"\nof = "latency"\nsparsity = {sparsity}\nrounds = 1\n[compress.train]\nsteps = 2\nbatch_size = 8\n'


def test_a_narrower_network_is_timed_beside_the_original_and_remembered(
    tiny_project: Callable[..., Project], tmp_path: Path
) -> None:
    plan = make_plan(tiny_project(SLIM.format(sparsity=0.3)).folder)
    cache = StageCache(plan.work_folder)
    loaded = load(plan, cache, Silent())
    meter = LatencyMeter(plan, baseline(plan, cache, loaded, Silent()).artifact, tmp_path, Silent())
    model = loaded.open(plan)
    work = Narrowing(model, model.example(2), ignore=())
    (group,) = (group for group in work.groups if group.name == "down.0")
    slim = narrower(model, [(group, np.arange(12))])

    first, again = meter(slim), meter(slim)

    assert first == again and first.ms > 0 and first.original_ms > 0
    assert len(json.loads((tmp_path / "latency.json").read_text())) == 1
    assert first.where.startswith("float32, litert ") and "arm64, one thread" in first.where


def test_a_target_whose_hardware_is_not_here_is_refused_by_the_plan(tiny_project: Callable[..., Project]) -> None:
    folder = tiny_project(SLIM.format(sparsity=0.3)).folder

    with pytest.raises(
        EnvironmentProblem,
        match=r"compress\.0 \(prune_channels\): latency is measured on this machine, and target 'intel-gpu' needs a GPU",
    ):
        make_plan(folder, target="intel-gpu")
    make_plans(folder, targets=("arm64", "intel-gpu"))  # measured on the first


def test_one_measurement_serves_all_targets_of_a_grid(tiny_project: Callable[..., Project]) -> None:
    folder = tiny_project(SLIM.format(sparsity=0.3)).folder
    plans = make_plans(folder, targets=("arm64", "x86_64"))
    alone = make_plan(folder, target="x86_64")
    ((name, method),) = alone.steps

    keys = [step_key(plan, "loaded", name, method) for plan in plans]

    assert keys[0] == keys[1] == step_key(replace(plans[1], target=alone.target), "loaded", name, method)
    assert step_key(alone, "loaded", name, method) != keys[0]
