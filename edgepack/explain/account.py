"""What an explanation says of a model: layer by layer, and in total. Values of JSON and CSV; what can't be known is None, with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgepack.explain.facts import LayerLoss, Losses, StepAccount, Steps
from edgepack.explain.weights import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A layer of the float model that the build began with; `change_sqnr_db` compares its weights with today's."""

    parameters: int
    macs: int | None
    change_sqnr_db: float | None
    histogram: Histogram | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAccount:
    """A layer that has weights or multiplies.

    `parameters` are weights and biases, scales left out; `nonzero_parameters` those that aren't 0. `macs` are for one sample. `file_bytes`
    are all constants of the layer in the model file, `coded_bytes` the same coded, `bits_per_weight` of the weights alone, coded.
    `sparsity` is the share of weights that are 0; `distinct_codes` counts the values that weights take. `rounding_sqnr_db` is
    the weights' power over step² / 12, `output_sqnr_db` what the build measured at the layer's output against the compressed network. `latency_ms` is the
    mean time of the layer's operators in one inference, in a profiled process on this machine. `loss` is there when it was asked for.
    `unknown` says why a value is None, by its name.
    """

    name: str
    kind: str
    weights: int
    parameters: int
    nonzero_parameters: int
    macs: int | None
    file_bytes: int
    coded_bytes: int
    bits_per_weight: float | None
    distinct_codes: int | None
    sparsity: float | None
    rounding_sqnr_db: float | None
    output_sqnr_db: float | None
    latency_ms: float | None
    histogram: Histogram | None
    original: Original | None
    loss: LayerLoss | None = None
    unknown: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The metric of a bundle's evaluation samples: the original float model's and the artifact's, shares in 0…1."""

    metric: str
    value: float
    float_value: float | None
    samples: int
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the layers. One unknown summand makes the sum None."""

    weights: int
    parameters: int
    nonzero_parameters: int
    macs: int | None
    file_bytes: int
    coded_bytes: int
    latency_ms: float | None
    original_parameters: int | None
    original_macs: int | None
    bits_per_weight: float | None
    sparsity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One model explained.

    `model_bytes` are its files; of them `other_constants_bytes` belong to no layer, and `structure_bytes` are what is no tensor. `description_bits` is the
    length of all of it coded, each tensor alone. `latency_ms` is the time of all operators in the profile, those of no layer with them.
    `losses` and `steps` are there when they were asked for. `unknown` says why a value is None.
    """

    title: str
    name: str
    version: str
    target: str
    format: str
    precision: str
    profile: str
    model_bytes: int
    layers: tuple[LayerAccount, ...]
    other_constants_bytes: int
    other_constants_coded_bytes: int
    structure_bytes: int
    structure_coded_bytes: int
    original_bytes: int | None
    latency_ms: float | None
    quality: Quality | None
    losses: Losses | None = None
    steps: Steps | None = None
    unknown: dict[str, str]

    @property
    def totals(self) -> Totals:
        """Sums over the layers."""
        weights = sum(one.weights for one in self.layers)
        weight_bits = [one.bits_per_weight * one.weights for one in self.layers if one.bits_per_weight is not None]
        zeros = [one.sparsity * one.weights for one in self.layers if one.sparsity is not None]
        originals = [one.original for one in self.layers]
        return Totals(
            weights=weights,
            parameters=sum(one.parameters for one in self.layers),
            nonzero_parameters=sum(one.nonzero_parameters for one in self.layers),
            macs=_sum(one.macs for one in self.layers),
            file_bytes=sum(one.file_bytes for one in self.layers),
            coded_bytes=sum(one.coded_bytes for one in self.layers),
            latency_ms=self.latency_ms,
            original_parameters=_sum(None if one is None else one.parameters for one in originals),
            original_macs=_sum(None if one is None else one.macs for one in originals),
            bits_per_weight=sum(weight_bits) / weights if weights else None,
            sparsity=sum(zeros) / weights if weights else None,
        )

    @property
    def description_bits(self) -> int:
        """The bits that write down the model: every tensor and the structure around them, coded."""
        coded = sum(one.coded_bytes for one in self.layers)
        return 8 * (coded + self.other_constants_coded_bytes + self.structure_coded_bytes)

    @property
    def meaning(self) -> str:
        """What the description length means, in two sentences."""
        totals = self.totals
        each = "" if totals.bits_per_weight is None else f", {totals.bits_per_weight:.2f} bits a weight"
        first = (
            f"The whole model can be written down in {self.description_bits:,} bits ({self.description_bits / 8000:,.1f} kB{each}), "
            "because a coder that has seen some of it predicts much of the rest; what it predicts costs nothing."
        )
        return f"{first} {self._for_what()}"

    def _for_what(self) -> str:
        quality = self.quality
        if quality is None:
            return "The bundle states no quality, so what these bits are worth is unknown."
        share, count = f"{quality.metric} of {100 * quality.value:.2f} %", f"{quality.samples:,} evaluation samples"
        if quality.float_value is None:
            return f"These bits are what its {share} on {count} needs at most."
        points = 100 * (quality.value - quality.float_value)
        return (
            f"These bits are enough for a {share} on {count} ({points:+.2f} points against the original's {100 * quality.float_value:.2f} %): "
            "of two models equally good on the same samples, the one with the shorter description explains them with less."
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        content = asdict(self)
        content["totals"] = asdict(self.totals)
        return {**content, "description_bits": self.description_bits, "meaning": self.meaning}


_NESTED = ("histogram", "original", "loss", "unknown")
_LOSS_COLUMNS = {
    "sensitivity": "sensitivity",
    "sensitivity_sqnr_db": "sensitivity_sqnr_db",
    "loss_share": "share",
    "loss_alone": "alone",
    "loss_points": "points",
    "loss_points_share": "points_share",
}
CSV_HEAD = (
    "bundle",
    *(one.name for one in fields(LayerAccount) if one.name not in _NESTED),
    "original_parameters",
    "original_macs",
    "change_sqnr_db",
    *_LOSS_COLUMNS,
)


def csv_rows(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """One row a layer, of every account; None is an empty cell."""
    rows = []
    for account in accounts:
        for one in account.layers:
            row = {key: getattr(one, key, None) for key in CSV_HEAD}
            original = one.original
            row |= {"bundle": account.title}
            row |= {
                "original_parameters": None if original is None else original.parameters,
                "original_macs": None if original is None else original.macs,
                "change_sqnr_db": None if original is None else original.change_sqnr_db,
            }
            row |= {column: getattr(one.loss, field, None) for column, field in _LOSS_COLUMNS.items()}
            rows.append(row)
    return rows


STEPS_HEAD = (
    "bundle",
    *(one.name for one in fields(StepAccount) if one.name not in ("drop_ci95", "unknown")),
    "drop_low",
    "drop_high",
)


def steps_csv_rows(accounts: Iterable[Account]) -> list[dict[str, Any]]:
    """One row a step, of every account that has steps; None is an empty cell."""
    rows = []
    for account in accounts:
        for one in account.steps.rows if account.steps is not None else ():
            row = {name: getattr(one, name, None) for name in STEPS_HEAD}
            rows.append({**row, "bundle": account.title, "drop_low": one.drop_ci95[0], "drop_high": one.drop_ci95[1]})
    return rows


def with_unique_titles(accounts: Sequence[Account]) -> list[Account]:
    """The same, a title that came before with a number behind it."""
    counts: Counter[str] = Counter()
    found = []
    for account in accounts:
        counts[account.title] += 1
        number = counts[account.title]
        found.append(account if number == 1 else replace(account, title=f"{account.title} ({number})"))
    return found


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None where a summand is unknown, or there is none."""
    known = list(values)
    return None if not known or None in known else sum(one for one in known if one is not None)
