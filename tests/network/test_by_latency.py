"""The share of the work that must go for a latency: found in few measurements, noisy ones, too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgepack.core.errors import RecipeError
from edgepack.network.channels.by_latency import Probe, share_for_latency


@pytest.mark.parametrize("wanted", [0.9, 0.5, 0.35])
@pytest.mark.parametrize(
    "curve",
    [
        lambda share: 1 - share,
        lambda share: 0.2 + 0.8 * (1 - share),
        lambda share: 1 - share**3,
        lambda share: float(np.ceil(8 * (1 - share)) / 8),  # kernels work on blocks of channels
    ],
)
def test_the_smallest_share_that_meets_it_is_found(wanted: float, curve: Callable[[float], float]) -> None:
    asked: list[float] = []

    def time_without(share: float) -> Probe:
        asked.append(share)
        return Probe(share=share, ratio=curve(share))

    found = share_for_latency(time_without, most=0.95, wanted=wanted)

    assert found.ratio == curve(found.share) <= wanted
    assert curve(max(found.share - 0.03, 0)) >= wanted - 0.02
    assert found.probes == len(asked) <= 10


def test_noise_does_not_stop_it() -> None:
    rng = np.random.default_rng(0)

    found = share_for_latency(
        lambda share: Probe(share=share, ratio=(1 - share) * rng.uniform(0.97, 1.03)), most=0.9, wanted=0.5
    )

    assert found.share == pytest.approx(0.5, abs=0.05)


def test_what_can_not_be_reached_is_refused_with_what_can() -> None:
    with pytest.raises(RecipeError, match="at most 30% of the measured latency can go, 50% should"):
        share_for_latency(lambda share: Probe(share=share, ratio=1 - share / 2), most=0.6, wanted=0.5)
