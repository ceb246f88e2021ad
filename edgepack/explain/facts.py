"""What an explanation tells when it is asked: how much each layer's weights matter, and what each step of the build bought."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What to measure of each layer: its sensitivity to `bits` on at most `samples` calibration samples; with `points`, what it costs on all evaluation samples, too."""

    bits: int = 4
    samples: int = 100
    points: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLoss:
    """How much a layer's weights matter.

    `sensitivity` is the distance of the original's outputs when they alone are rounded to `Losses.bits`, `sensitivity_sqnr_db` their power over that of the
    rounding. `share` is the layer's part of `Losses.distance` (see `loss_path`); it may be negative. `alone` is the distance of the original with this
    layer as the bundle has it, `points` what that costs in the metric on the evaluation samples, with its interval, and `points_share` its part of what
    the bundle lost: these are not parts of a whole, as layers that were trained together make up for each other.
    """

    sensitivity: float | None = None
    sensitivity_sqnr_db: float | None = None
    share: float | None = None
    alone: float | None = None
    points: float | None = None
    points_ci95: tuple[float, float] | None = None
    points_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What the layers' losses are measured with, and what they are parts of.

    `reference` is 'original', or 'student' where that took the original's place: what is said of the original's outputs here is then said of the student's.
    `samples` are those of data.calibration. `distance` is that of the compressed network's outputs from the original's, `weights_distance` the same with its
    activations in float. The layers' shares, `other_share` (parameters in no layer) and `activations_share` (what rounding activations adds) make 1.
    `points` is what the bundle lost of the metric on `points_samples` evaluation samples.
    """

    bits: int
    samples: int
    reference: str = "original"
    distance: float | None = None
    weights_distance: float | None = None
    other_share: float | None = None
    activations_share: float | None = None
    points: float | None = None
    points_samples: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAccount:
    """The model after a step of the build, exported for the target: what it costs then.

    `coded_bytes` are those of the file as `edgepack pack` packs it; `accuracy` is the metric of the file on the evaluation samples, in 0…1; `drop_points`
    and its interval are against the original on the same samples. `latency_p50_ms` is the median on this machine, all steps measured in turn.
    """

    step: str
    precision: str
    parameters: int
    nonzero_parameters: int
    macs: int | None
    file_bytes: int
    coded_bytes: int
    accuracy: float
    drop_points: float
    drop_ci95: tuple[float, float]
    latency_p50_ms: float | None
    unknown: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What each step of a build bought; the first is the original, the last is what ships. `failed` has the steps after which the target can't take the model, with the reason."""

    metric: str
    samples: int
    target: str
    rows: tuple[StepAccount, ...]
    failed: dict[str, str]

    @property
    def is_timed(self) -> bool:
        """Whether any latency is known."""
        return any(one.latency_p50_ms is not None for one in self.rows)
