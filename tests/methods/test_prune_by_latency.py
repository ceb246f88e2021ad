"""Channel pruning until the measured latency has fallen as far as it shall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from methods.test_prune_channels import context, tiny

from edgepack.core.errors import RecipeError
from edgepack.methods.prune_channels import PruneChannels
from edgepack.network.channels.by_latency import Latency
from edgepack.network.channels.work import macs_of, uses_of
from edgepack.network.model import Model

TRAIN = {"steps": 6, "batch_size": 8}


def clock(original: Model, *, fixed: float) -> Callable[[Model], Latency]:
    """A machine whose time goes into multiply-accumulates, and a fixed share of the original's into everything else."""

    def work(model: Model) -> int:
        return macs_of(model.network.state_dict(), uses_of(model.network, model.example()))

    return lambda model: Latency(
        ms=fixed + (1 - fixed) * work(model) / work(original), original_ms=1.0, where="test"
    )  # fmt: skip


def pruned(folder: Path, *, fixed: float, **options: Any) -> Model:
    method = PruneChannels.model_validate({"of": "latency", "train": TRAIN, **options})
    return method.apply(tiny(), replace(context(tiny(), folder), latency=clock(tiny(), fixed=fixed)))


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("scope", ["model", "layer"])
def test_the_share_of_the_latency_goes_away(importance: str, scope: str, tmp_path: Path) -> None:
    done = pruned(tmp_path, fixed=0.2, sparsity=0.4, importance=importance, scope=scope, rounds=2)

    facts = done.lineage[-1]
    assert 0.45 < facts["latency"]["ratio"] <= 0.6
    assert facts["latency"]["before_ms"] == 1.0 and facts["latency"]["of"] == "test"
    assert facts["after"]["macs"] / facts["before"]["macs"] == pytest.approx(
        0.5, abs=0.15
    )  # more must go than the latency's share
    assert 2 <= facts["latency"]["probes"] <= 10


def test_more_than_can_go_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"at most \d+% of the measured latency can go, 70% should; lower sparsity"):
        pruned(tmp_path, fixed=0.5, sparsity=0.7)

    assert list(tmp_path.iterdir()) == []


def test_other_measures_need_no_clock() -> None:
    assert not PruneChannels(sparsity=0.5).needs_latency
    assert PruneChannels(sparsity=0.5, of="latency").needs_latency
