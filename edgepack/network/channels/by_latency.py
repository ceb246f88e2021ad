"""How many multiply-accumulates must go for the measured latency to fall as far as it shall: a search with few measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgepack.core.errors import RecipeError

# A ratio this far below the wanted one is near enough; an interval of shares this narrow ends the search, as noise is larger.
_NEAR = 0.015
_NARROW = 0.01
_PROBES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A network that was timed: the share of the multiply-accumulates that it lacks, at least what was asked, and its latency as a part of the original's."""

    share: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The share of the multiply-accumulates that goes, the ratio of latencies with it, and how many measurements it took."""

    share: float
    ratio: float
    probes: int


def share_for_latency(time_without: Callable[[float], Probe], *, most: float, wanted: float) -> Found:
    """The smallest share, up to `most`, without which the latency's ratio is at most `wanted`, within a few per cent.

    `time_without(share)` measures a network without that share of the multiply-accumulates. Raises RecipeError, with what can be reached, where even `most`
    is not enough.
    """
    least = time_without(most).ratio
    if least > wanted:
        raise RecipeError(
            f"compress.prune_channels: at most {1 - least:.0%} of the measured latency can go, {1 - wanted:.0%} should; "
            "lower sparsity, keep_min or round_to, or ignore fewer layers"
        )
    low, above, high, below = 0.0, 1.0, most, least
    probes = 1
    while probes < _PROBES_MAX and high - low > _NARROW and wanted - below > _NEAR:
        # Latency falls about evenly with the work; kept off the ends, so that a step in it can't stop the search.
        even = low + (high - low) * (above - wanted) / max(above - below, 1e-9)
        middle = min(max(even, low + (high - low) / 8), high - (high - low) / 8)
        found = time_without(middle)
        probes += 1
        if found.ratio <= wanted:
            high, below = min(found.share, high), found.ratio
        else:
            low, above = middle, max(found.ratio, wanted)
    return Found(share=high, ratio=below, probes=probes)
