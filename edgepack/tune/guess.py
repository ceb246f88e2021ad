"""How many bytes a combination will take, told from the float weights in milliseconds, before anything is trained.

Zeros, few levels and shared values are laid on the weights as they are; what their codes then cost is the entropy of each tensor (Shannon 1948), which the
transport coder comes close to. Training moves weights, so what trials turn out to take corrects the guess (`corrected`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.recipe import CompressStep
from edgepack.tune.spectra import energy_curve, kept_share

_SAMPLED_MAX = 16_384  # weights of a layer that are looked at
_FLOAT_BITS = 25.0  # of a float32 weight, coded: its exponent and sign have little entropy
_CODEBOOK_FILL = (
    0.94  # k-means values are not used alike: entropy over bits, of weights that fall off as a Gaussian does
)
_SORTED = 0.985  # `sort_channels`: docs/methods.md
_GATHERED = 0.91  # `prune_entropy` keeps weights where they are cheap to code: measured on examples/fashion_mnist
_DEFAULT_LEVELS = 7
_STEPS_TRIED = 24
_BISECTIONS = 14

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One layer's weight. `by_norm`, `by_rms` and `by_channel` are magnitudes of a sample of it, over the layer's norm, its root mean square, and the
    largest magnitude of their output channel. `share` is what of it is left, `kept` which of the sample are not zero. `curve` is its spectrum, None where it
    has no factors."""

    name: str
    count: int
    shape: tuple[int, int]
    by_norm: Values
    by_rms: Values
    by_channel: Values
    curve: NDArray[np.float64] | None
    kept: NDArray[np.bool_]
    share: float = 1.0
    levels: int | None = None
    shared_bits: int | None = None
    bits: float = _FLOAT_BITS


def weight_of(name: str, value: NDArray[np.floating]) -> Weight:
    """What a guess needs to know of a weight with output channels first."""
    rows = np.asarray(value, dtype=np.float32).reshape(value.shape[0], -1)
    magnitudes = np.abs(rows)
    by_channel = magnitudes / np.maximum(magnitudes.max(axis=1, keepdims=True), 1e-12)
    norm = max(float(np.linalg.norm(rows)), 1e-12)
    chosen = np.random.default_rng(0).permutation(rows.size)[:_SAMPLED_MAX]
    picked = magnitudes.reshape(-1)[chosen]
    is_depthwise = value.ndim > 2 and value.shape[1] == 1
    return Weight(
        name=name,
        count=rows.size,
        shape=(rows.shape[0], rows.shape[1]),
        by_norm=np.asarray(picked / norm, dtype=np.float32),
        by_rms=np.asarray(picked * (math.sqrt(rows.size) / norm), dtype=np.float32),
        by_channel=by_channel.reshape(-1)[chosen],
        curve=None if is_depthwise else energy_curve(rows),
        kept=np.ones(len(picked), dtype=np.bool_),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeGuess:
    """Guesses packed bytes. `overhead_bytes` is what isn't weights, `ratios` by what trials of the same methods exceeded their guess."""

    weights: tuple[Weight, ...]
    overhead_bytes: float = 0.0
    ratios: Mapping[frozenset[str], float] | None = None

    @classmethod
    def measured(cls, weights: Iterable[Weight], steps: Sequence[CompressStep], packed_bytes: int) -> SizeGuess:
        """The guess that is right for `steps`, which took so many bytes."""
        fresh = cls(weights=tuple(weights))
        return replace(fresh, overhead_bytes=max(0.0, packed_bytes - fresh.bytes_of(steps)))

    def corrected(self, seen: Iterable[tuple[Sequence[CompressStep], float, int]]) -> SizeGuess:
        """The same, after trials with these steps, uncorrected guesses and bytes."""
        ratios: dict[frozenset[str], list[float]] = {}
        for steps, guessed, packed in seen:
            ratios.setdefault(_methods(steps), []).append(packed / max(guessed, 1.0))
        return replace(self, ratios={methods: median(found) for methods, found in ratios.items()})

    def bytes_of(self, steps: Sequence[CompressStep], *, corrected: bool = True) -> float:
        """Bytes of the packed model after these steps."""
        weights = self.weights
        order = 1.0
        for step in steps:
            if step.method in _EFFECTS:
                weights = _EFFECTS[step.method](weights, step.options())
            order *= _PLACES.get(step.method, 1.0)
        left = sum(weight.share * weight.count for weight in weights) / max(1, sum(one.count for one in weights))
        # Biases and scales go with their channels, names and the graph stay: about half of the rest each.
        rest = self.overhead_bytes * (1 + math.sqrt(min(1.0, left))) / 2
        guessed = rest + order * sum(_coded_bits(weight) for weight in weights) / 8
        return guessed * (self._ratio(_methods(steps)) if corrected else 1.0)

    def solve(self, steps_at: Callable[[float], Sequence[CompressStep]], low: float, high: float, aim: float) -> float:
        """The value in low…high whose steps take `aim` bytes; the nearer end where none does."""
        at_low, at_high = self.bytes_of(steps_at(low)), self.bytes_of(steps_at(high))
        falls = at_low >= at_high
        if not min(at_low, at_high) < aim < max(at_low, at_high):
            return low if (aim >= at_low) == falls else high
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if (self.bytes_of(steps_at(middle)) > aim) == falls:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _ratio(self, methods: frozenset[str]) -> float:
        """That of trials with these methods, else of those that have the most in common with them."""
        known = self.ratios or {}
        nearest = max(known, key=lambda other: len(methods & other) / len(methods | other), default=frozenset())
        return known[nearest] if nearest in known and len(methods & nearest) > 1 else 1.0


def _methods(steps: Sequence[CompressStep]) -> frozenset[str]:
    return frozenset(step.method for step in steps)


def _without_channels(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    left = 1 - float(options["sparsity"])
    return tuple(replace(weight, share=weight.share * left) for weight in weights)


def _as_factors(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    ignored = set(options.get("ignore", ()))
    energy = float(options.get("energy", options.get("keep", 1.0)))
    return tuple(
        weight
        if weight.curve is None or weight.name.removesuffix(".weight") in ignored
        else replace(weight, share=weight.share * kept_share(weight.curve, weight.shape, energy))
        for weight in weights
    )


def _with_zeros(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    """The smallest become zero: of each layer, or of all, in magnitude over their layer's norm."""
    sparsity = float(options["sparsity"])
    if options.get("scope", "layer") == "layer":
        bounds = {weight.name: float(np.quantile(weight.by_norm, sparsity)) for weight in weights}
        return _cut(weights, options, lambda weight: weight.by_norm > bounds[weight.name])
    bound = _joint_quantile(weights, options, lambda weight: weight.by_norm, sparsity)
    return _cut(weights, options, lambda weight: weight.by_norm > bound)


def _with_levels(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    """The smallest of all, over their layer's root mean square, become zero; the others have few levels."""
    bound = _joint_quantile(weights, options, lambda weight: weight.by_rms, float(options.get("sparsity") or 0.5))
    ignored = set(options.get("ignore", ()))
    levels = options.get("levels", _DEFAULT_LEVELS)
    found = _cut(weights, options, lambda weight: weight.by_rms > bound)
    return tuple(one if one.name in ignored else replace(one, levels=levels) for one in found)


def _with_codebooks(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    ignored = set(options.get("ignore", ()))
    return tuple(
        one if one.name in ignored or one.levels is not None else replace(one, shared_bits=int(options.get("bits", 4)))
        for one in weights
    )


def _rounded(weights: Sequence[Weight], options: Mapping[str, Any]) -> tuple[Weight, ...]:
    """int8, and int4 for the share that asks for it: large layers bear it best for what they save."""
    narrow, left = set[str](), 0.0
    if options.get("weights_bits") == 4:
        left = float(options.get("int4_share") or 1.0) * sum(weight.count for weight in weights)
    for weight in sorted(weights, key=lambda weight: -weight.count):
        if left > 0:
            narrow.add(weight.name)
            left -= weight.count
    return tuple(replace(weight, bits=4.0 if weight.name in narrow else 8.0) for weight in weights)


_EFFECTS: dict[str, Callable[[Sequence[Weight], Mapping[str, Any]], tuple[Weight, ...]]] = {
    "prune_channels": _without_channels,
    "low_rank": _as_factors,
    "prune_magnitude": _with_zeros,
    "prune_entropy": _with_levels,
    "palettize": _with_codebooks,
    "quantize": _rounded,
}
# What a better arrangement of zeros and levels saves.
_PLACES = {"sort_channels": _SORTED, "prune_entropy": _GATHERED}


def _cut(
    weights: Sequence[Weight], options: Mapping[str, Any], kept: Callable[[Weight], NDArray[np.bool_]]
) -> tuple[Weight, ...]:
    ignored = set(options.get("ignore", ()))
    return tuple(
        weight if weight.name in ignored else replace(weight, kept=weight.kept & kept(weight)) for weight in weights
    )


def _joint_quantile(
    weights: Sequence[Weight], options: Mapping[str, Any], of: Callable[[Weight], Values], share: float
) -> float:
    """The value below which `share` of all the weights lie, each sample standing for its whole layer."""
    ignored = set(options.get("ignore", ()))
    counted = [weight for weight in weights if weight.name not in ignored]
    if not counted:
        return 0.0
    values = np.concatenate([of(weight) for weight in counted])
    stands_for = np.concatenate([np.full(len(w.kept), w.share * w.count / len(w.kept)) for w in counted])
    order = np.argsort(values)
    reached = np.cumsum(stands_for[order])
    at = int(np.searchsorted(reached, share * reached[-1]))
    return float(values[order[min(at, len(values) - 1)]])


def _coded_bits(weight: Weight) -> float:
    """What the tensor's codes cost: the entropy of their magnitudes, and a sign for each that isn't zero."""
    count = weight.share * weight.count
    if weight.bits >= _FLOAT_BITS:
        share = float(weight.kept.mean())
        return count * (_entropy(np.asarray([share, 1 - share])) + share * _FLOAT_BITS)
    if weight.shared_bits is not None:
        share = float(weight.kept.mean())
        entries = 2**weight.shared_bits - (share < 1)
        return count * (_entropy(np.asarray([share, 1 - share])) + share * _CODEBOOK_FILL * math.log2(max(2, entries)))
    codes = _codes(weight)
    shares = np.bincount(codes) / len(codes)
    return count * (_entropy(shares) + float((codes > 0).mean()))


def _codes(weight: Weight) -> NDArray[np.int64]:
    """Magnitudes of the codes of the sample."""
    if weight.levels is None:
        return np.round(weight.by_channel * weight.kept * (2 ** (weight.bits - 1) - 1)).astype(np.int64)
    kept = weight.by_rms * weight.kept
    largest = float(kept.max(initial=0.0)) or 1.0
    tried = [largest * share / weight.levels for share in np.linspace(0.25, 1.1, _STEPS_TRIED)]
    coded = [np.minimum(np.round(kept / step), weight.levels) for step in tried]
    errors = [float(((codes * step - kept) ** 2).sum()) for codes, step in zip(coded, tried, strict=True)]
    return np.asarray(coded[int(np.argmin(errors))], dtype=np.int64)


def _entropy(shares: NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())
