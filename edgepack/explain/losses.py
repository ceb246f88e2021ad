"""How much each layer's weights matter: what rounding them does to the original, and what part of the build's loss they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepack.core.errors import UsageError
from edgepack.core.types import Progress
from edgepack.explain.account import Account, LayerAccount
from edgepack.explain.build import KeptBuild
from edgepack.explain.facts import LayerLoss, Losses, Sensitivity
from edgepack.explain.loss_meter import LossMeter
from edgepack.network.model import Model
from edgepack.network.sensitivity import weight_axes

_NO_DISTANCE = 1e-6  # below it, a distance is the noise of float32
_NO_WEIGHT = "the original has no weight by this name"
_TOLD = "the weights are those of {layer}, or a factor of the same weight; it is told there"
_NOTHING_LOST = "the compressed network gives the outputs of the original: there is no loss to have a share of"
_OF_STUDENT = "what the bundle lost is against the original, what a layer costs is against the student"
_NO_POINTS_LOST = "the bundle lost no points: there is nothing to have a share of"


def with_losses(account: Account, build: KeptBuild, asked: Sensitivity, progress: Progress) -> Account:
    """The account with every layer's sensitivity and its share of the loss.

    Results are kept in the work folder; what was interrupted goes on at the layer where it was. Raises DataError where the samples can't be had.
    """
    reference, before = build.before
    if before is None:
        raise UsageError(f"{build.cache.root}: {build.why_not}")
    meter = LossMeter(build=build, before=before, asked=asked, progress=progress)
    weights = _weights_of(account, meter.original)
    names = list(dict.fromkeys(weights.values()))
    sensitivity = meter.sensitivity(names)
    shares = {"why_not": build.why_not} if build.compressed is None else meter.shares(names)
    lost = meter.points(names) if asked.points and "alone" in shares else {}
    total_points = _points_of(account) if asked.points else None
    losses = replace(_losses(asked, sensitivity["samples"], shares, account, total_points), reference=reference)
    teller = _Teller(sensitivity=sensitivity["of"], shares=shares, lost=lost, losses=losses)
    first: dict[str, str] = {}
    layers = [teller.with_loss(layer, weights.get(layer.name), first) for layer in account.layers]
    unknown = {name: reason for name, reason in account.unknown.items() if name != "losses"}
    if (why_not := shares.get("why_not")) is not None:
        unknown["loss_share"] = why_not
    return replace(account, layers=tuple(layers), losses=losses, unknown=unknown)


def _losses(
    asked: Sensitivity, samples: int, shares: Mapping[str, Any], account: Account, total_points: float | None
) -> Losses:
    distance, by_weights = shares.get("distance"), shares.get("weights_distance")
    part = by_weights / distance if distance is not None and distance > _NO_DISTANCE else None
    is_told = part is not None and bool(shares.get("share"))
    return Losses(
        bits=asked.bits,
        samples=samples,
        distance=distance,
        weights_distance=by_weights,
        other_share=shares["other"] * part if part is not None and is_told else None,
        activations_share=None if part is None else 1 - part,
        points=total_points,
        points_samples=account.quality.samples if total_points is not None and account.quality is not None else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Teller:
    """Puts what was measured beside each layer."""

    sensitivity: Mapping[str, Any]
    shares: Mapping[str, Any]
    lost: Mapping[str, Any]
    losses: Losses

    def with_loss(self, layer: LayerAccount, weight: str | None, first: dict[str, str]) -> LayerAccount:
        """The layer with its loss; `first` keeps by weight the layer where it is told, for a weight may be used by several."""
        if weight is None or first.setdefault(weight, layer.name) != layer.name:
            reason = _NO_WEIGHT if weight is None else _TOLD.format(layer=first[weight])
            reason = layer.unknown.get("sparsity", reason)  # multiplies two computed tensors
            unknown = {**layer.unknown, "sensitivity": reason, "loss_share": reason}
            return replace(layer, loss=LayerLoss(), unknown=unknown)
        loss = self._loss(weight)
        unknown = dict(layer.unknown)
        if loss.share is None:
            unknown["loss_share"] = self.shares.get("why_not") or _NOTHING_LOST
        if self.losses.points is not None and loss.points_share is None:
            reason = _NO_POINTS_LOST if self.losses.reference == "original" else _OF_STUDENT
            unknown["loss_points_share"] = self.shares.get("why_not") or reason
        return replace(layer, loss=loss, unknown=unknown)

    def _loss(self, weight: str) -> LayerLoss:
        sensitivity, sqnr_db = self.sensitivity[weight]
        share = self.shares.get("share", {}).get(weight)
        part = self.losses.activations_share
        points, interval = self.lost.get(weight, (None, None))
        whole, is_original = self.losses.points, self.losses.reference == "original"
        return LayerLoss(
            sensitivity=sensitivity,
            sensitivity_sqnr_db=sqnr_db,
            share=share * (1 - part) if share is not None and part is not None else None,
            alone=self.shares.get("alone", {}).get(weight),
            points=points,
            points_ci95=None if interval is None else (interval[0], interval[1]),
            points_share=points / whole
            if points is not None and whole is not None and whole > 0 and is_original
            else None,
        )


def _weights_of(account: Account, original: Model) -> dict[str, str]:
    """By layer name the original's weight: by name, or in order where no name leads to it and both have as many layers with weights."""
    parameters = {name for name, value in original.network.named_parameters() if value.dim() >= 2}
    found = {}
    weighing = [layer for layer in account.layers if layer.weights]
    for layer in weighing:
        base = layer.name.partition(" (")[0]
        factored = f"{base.rpartition('.')[0]}.weight"  # 'classifier.1' is a factor of 'classifier'
        name = next((one for one in (f"{base}.weight", base, factored) if one in parameters), None)
        if name is not None:
            found[layer.name] = name
    if found:
        return found
    axes = weight_axes(original)
    return {layer.name: name for layer, name in zip(weighing, axes, strict=True)} if len(axes) == len(weighing) else {}


def _points_of(account: Account) -> float | None:
    quality = account.quality
    if quality is None or quality.float_value is None:
        return None
    return 100 * (quality.float_value - quality.value)
