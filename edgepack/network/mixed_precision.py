"""Which weights take four bits: those that lose least for the bytes they save, by name, by share or by a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgepack.core.errors import RecipeError, did_you_mean
from edgepack.core.types import Grid, Progress, Samples
from edgepack.network.int4 import BITS, LARGEST_CODE
from edgepack.network.model import Model
from edgepack.network.sensitivity import weight_sensitivity

_WHERE = "compress.quantize"
_SENSITIVITY_SAMPLES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How many weights shall take four bits: `share` of all, or as many as `max_bytes` needs; all that can where both are None."""

    int8_layers: tuple[str, ...] = ()
    share: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The weights of a network by parameter name, with how many values each has; `kept` are those that stay int8, with the reason."""

    sizes: Mapping[str, int]
    kept: Mapping[str, str]

    @property
    def free(self) -> tuple[str, ...]:
        """Those that may take four bits."""
        return tuple(name for name in self.sizes if name not in self.kept)


def choose(
    model: Model, sizes: Mapping[str, int], wanted: Wanted, samples: Samples, progress: Progress
) -> frozenset[str]:
    """The weights that take four bits, of those in `sizes`, by parameter name.

    Those whose rounding moves the outputs least for the bytes it saves come first; `samples` tell, where it matters. Raises RecipeError for a layer that
    doesn't exist and a share or budget that can't be reached.
    """
    candidates = candidates_of(model, sizes, wanted.int8_layers)
    if not candidates.free:
        raise RecipeError(
            f"{_WHERE}.weights_bits: no weight is left for 4 bits ({_told(candidates)}); shorten int8_layers, or leave weights_bits out"
        )
    if wanted.share is None and wanted.max_bytes is None:
        return frozenset(candidates.free)
    # Whether it can be reached at all is asked before anything is measured.
    if wanted.share is not None:
        reach_share(candidates.free, candidates, wanted.share)
        return reach_share(_by_sensitivity(model, candidates, samples, progress), candidates, wanted.share)
    assert wanted.max_bytes is not None
    reach_bytes(candidates.free, candidates, wanted.max_bytes)
    return reach_bytes(_by_sensitivity(model, candidates, samples, progress), candidates, wanted.max_bytes)


def candidates_of(model: Model, sizes: Mapping[str, int], int8_layers: Sequence[str]) -> Candidates:
    """Which weights stay int8 in any case: those that are named, those that share values, those with more levels than four bits have."""
    kept = dict.fromkeys(sorted(named_weights(int8_layers, sizes)), "are in int8_layers")
    kept |= {name: f"have up to {levels} levels" for name, levels in model.levels.items() if levels > LARGEST_CODE}
    kept |= dict.fromkeys(model.shared, "share values (palettize)")
    return Candidates(sizes=sizes, kept={name: reason for name, reason in kept.items() if name in sizes})


def same_as_base(grid: Grid, sizes: Mapping[str, int], *, weights_bits: int) -> frozenset[str]:
    """The weights that have four bits in the model that is updated. Raises RecipeError where the recipe wants other bits."""
    int4 = frozenset(name for name, params in grid.weights.items() if params.dtype == "int4" and name in sizes)
    bits = BITS if int4 else 8
    if bits != weights_bits:
        raise RecipeError(
            f"{_WHERE}.weights_bits: {weights_bits}, and weights of the base have {bits} bits; an update keeps the base's grid: set weights_bits = {bits}, "
            "or leave 'update_of' out"
        )
    return int4


def _by_sensitivity(model: Model, candidates: Candidates, samples: Samples, progress: Progress) -> list[str]:
    """The least sensitive per weight first; depthwise layers after all others: they hold few weights, and few kernels read int4 there."""
    few = samples.take(slice(0, _SENSITIVITY_SAMPLES))
    found = weight_sensitivity(model, few, bits=BITS, names=candidates.free, progress=progress)
    cost = {one.weight: one.output_distance / one.parameters for one in found}
    shapes = {name: model.network.get_parameter(name).shape for name in candidates.free}
    return sorted(candidates.free, key=lambda name: (len(shapes[name]) > 2 and shapes[name][1] == 1, cost[name], name))


def named_weights(layers: Sequence[str], weights: Iterable[str]) -> frozenset[str]:
    """The weights of these layers: each is a weight's own name, or a module's, which stands for all weights in it.

    Raises RecipeError for a layer that has none.
    """
    names, found = tuple(weights), set()
    for layer in layers:
        inside = {name for name in names if name == layer or name.startswith(f"{layer}.")}
        if not inside:
            known = [*names, *(name.rpartition(".")[0] for name in names)]
            raise RecipeError(
                f"{_WHERE}.int8_layers: no layer '{layer}' has weights that are quantized{did_you_mean(layer, known)}"
            )
        found |= inside
    return frozenset(found)


def reach_share(order: Sequence[str], candidates: Candidates, share: float) -> frozenset[str]:
    """The first weights of an order that together are at least this share of all. Raises RecipeError where even all of them are not."""
    total = sum(candidates.sizes.values())
    chosen: set[str] = set()
    for name in order:
        if _values(chosen, candidates) >= share * total:
            break
        chosen.add(name)
    if _values(chosen, candidates) < share * total:
        reached = _values(chosen, candidates) / total
        raise RecipeError(
            f"{_WHERE}.int4_share: {share:g} of the weights can't take four bits, at most {reached:.4f} can ({_told(candidates)}); "
            "lower int4_share, or shorten int8_layers"
        )
    return frozenset(chosen)


def reach_bytes(order: Sequence[str], candidates: Candidates, max_bytes: int) -> frozenset[str]:
    """The first weights of an order with which all weights fit into so many bytes. Raises RecipeError where even all of them don't."""
    chosen: set[str] = set()
    for name in order:
        if weight_bytes(candidates.sizes, chosen) <= max_bytes:
            break
        chosen.add(name)
    needed = weight_bytes(candidates.sizes, chosen)
    if needed > max_bytes:
        raise RecipeError(
            f"{_WHERE}.max_weight_bytes: the weights take {needed:,} bytes with all of four bits that can ({_told(candidates)}), {max_bytes:,} are allowed; "
            "raise max_weight_bytes, shorten int8_layers, or remove channels first (prune_channels)"
        )
    return frozenset(chosen)


def weight_bytes(sizes: Mapping[str, int], int4: Iterable[str]) -> int:
    """What the weights take in a file, in bytes, scales and biases left out: half a byte each in the weights of `int4`, else one."""
    narrow = frozenset(int4)
    return sum((size + 1) // 2 if name in narrow else size for name, size in sizes.items())


def _values(names: Iterable[str], candidates: Candidates) -> int:
    return sum(candidates.sizes[name] for name in names)


def _told(candidates: Candidates) -> str:
    """Why weights stay int8, in words."""
    reasons: dict[str, int] = {}
    for name, reason in candidates.kept.items():
        reasons[reason] = reasons.get(reason, 0) + candidates.sizes[name]
    return "; ".join(f"{count:,} weights {reason}" for reason, count in reasons.items()) or "all weights counted"
