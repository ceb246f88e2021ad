"""A recipe of several targets that takes channels off by latency: measured on the first target, once, and built for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_project import MODEL, PTQ, Project

from edgepack.core.types import Silent
from edgepack.pipeline import build_all
from edgepack.plan import make_plans
from edgepack.stages.compress import compress
from edgepack.stages.load import load
from edgepack.store.cache import StageCache

pytestmark = pytest.mark.slow
WIDTH = "WIDTH = 64\n"  # so that convolutions, and not the calls of operators, take the time
SHARE = 0.3
SLIM = f"""
[[compress]]
method = "prune_channels"
of = "latency"
sparsity = {SHARE}
rounds = 1

[compress.train]
steps = 2
batch_size = 8
"""


@pytest.fixture
def wide(tiny_project: Callable[..., Project]) -> Callable[[str], Project]:
    """The small project with eight times as many channels, untrained."""
    import torch

    def make(steps: str) -> Project:
        project = tiny_project(steps)
        (project.folder / "widths.py").write_text(WIDTH)
        namespace: dict[str, Any] = {}
        exec(MODEL.replace("from widths import WIDTH", WIDTH), namespace)
        torch.manual_seed(0)
        project.write_state(namespace["make"]().state_dict())
        return project

    return make


def test_two_targets_share_one_narrower_network_whose_latency_was_measured_on_the_first(
    wide: Callable[[str], Project],
) -> None:
    project = wide(SLIM + PTQ)

    built = build_all(project.folder, targets=("arm64", "x86_64"), allow_failed_checks=True)

    variants = {bundle.variant().target: bundle.variant() for bundle in built.bundles}
    slim, other = (variants[name].lineage["steps"][0] for name in ("arm64", "x86_64"))
    assert slim == other
    facts = slim["latency"]
    assert facts["ratio"] <= 1 - SHARE
    assert facts["ratio"] == pytest.approx(facts["after_ms"] / facts["before_ms"], abs=1e-3)
    assert facts["of"].startswith("float32, litert ") and " for arm64, one thread" in facts["of"]
    assert slim["after"]["macs"] < slim["before"]["macs"]
    assert sum(name.startswith("prune_channels-") for name in project.stages()) == 1
    assert {variant.model.format for variant in variants.values()} == {"tflite", "onnx"}
    for variant in variants.values():  # four bytes a weight before, one after, of fewer weights
        assert variant.model.total_bytes < 0.25 * variant.lineage["float_model"]["size_bytes"]


def test_named_the_other_way_round_the_other_runtime_is_asked(wide: Callable[[str], Project]) -> None:
    plan, other = make_plans(wide(SLIM).folder, targets=("x86_64", "arm64"))
    cache = StageCache(plan.work_folder)
    loaded = load(plan, cache, Silent())

    slim, again = (compress(one, cache, loaded, Silent()) for one in (plan, other))

    assert slim.folder == again.folder
    facts = slim.open(plan).lineage[-1]["latency"]
    assert facts["of"].startswith("float32, onnxruntime ") and " for x86_64, one thread" in facts["of"]
