"""How many multiply-accumulates must go for the measured latency to fall as far as it shall: a search with few measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import RecipeError

if TYPE_CHECKING:
    from edgepack.network.channels.groups import ChannelGroup, Places
    from edgepack.network.channels.narrowing import Narrowing
    from edgepack.network.model import Model

# A ratio this far below the wanted one is near enough; an interval of shares this narrow ends the search, as noise is larger.
_NEAR = 0.015
_NARROW = 0.01
_PROBES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The measured latency of a network that is being compressed, beside the original's; `where` says of what, by which runtime."""

    ms: float
    original_ms: float
    where: str

    @property
    def ratio(self) -> float:
        return self.ms / self.original_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What times networks, and the one whose latency the shares are of: `student`, or the original where that is None."""

    measure: Callable[[Model], Latency]
    student: Model | None

    def whole(self) -> float:
        """Its latency as a part of the original's."""
        return 1.0 if self.student is None else self.measure(self.student).ratio


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


def share_of_macs(
    work: Narrowing,
    watch: Watch,
    choose: Callable[[float], list[tuple[ChannelGroup, Places]]],
    *,
    whole: int,
    most: float,
    wanted: float,
) -> Found:
    """The share, up to `most`, of the `whole` multiply-accumulates without which the measured latency is `wanted` of what it was.

    `choose(share)` says which channels of the network go for one. Raises RecipeError, with what can be reached, where even `most` is not enough.
    """
    from edgepack.network.channels.narrowing import narrower

    dense = watch.whole()

    def time_without(share: float) -> Probe:
        smaller = narrower(work.model, choose(share))
        left = work.cost("macs", smaller.network.state_dict())
        return Probe(share=1 - left / whole, ratio=watch.measure(smaller).ratio / dense)

    return share_for_latency(time_without, most=most, wanted=wanted)


def latency_facts(model: Model, watch: Watch, goal: Found) -> dict[str, Any]:
    """What a lineage says of latencies: that of the network that came out, with its own choice of channels, and how the share was found."""
    found = watch.measure(model)
    dense = watch.whole()
    return {
        "before_ms": found.original_ms * dense,
        "after_ms": found.ms,
        "ratio": round(found.ratio / dense, 4),
        "of": found.where,
        "macs_share": round(goal.share, 4),
        "probes": goal.probes,
    }


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
