"""How a result is judged: `[metric]`, `[budget]`, `[fidelity]`, `[parity]`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgepack.core.section import Section

MetricName = Literal["top1", "top5", "precision", "recall", "f1"]


class MetricSection(Section):
    """How a result is judged."""

    name: MetricName = Field(
        default="top1",
        description="Share of samples whose label is the largest (`top1`) or among the five largest (`top5`) outputs; or `precision`, `recall` or `f1` "
        "as scikit-learn defines them: of class 1 where there are two classes, else the mean over classes (macro).",
    )
    output: str | None = Field(default=None, description="The output that is judged. Default: the first.")
    report: tuple[MetricName, ...] | None = Field(
        default=None,
        description="Further metrics that are told beside it, without a limit. Default: none for `top1` and `top5`, and `top1`, `precision`, `recall` and `f1` for the others.",
    )

    @property
    def also(self) -> tuple[MetricName, ...]:
        """The metrics that are told beside the one that is judged."""
        every: tuple[MetricName, ...] = ("top1", "precision", "recall", "f1")
        wanted = self.report if self.report is not None else () if self.name in ("top1", "top5") else every
        return tuple(name for name in dict.fromkeys(wanted) if name != self.name)


class BudgetSection(Section):
    """Limits that the finished bundle must keep; a limit left out is not checked."""

    drop_points: float | None = Field(
        default=1.0, ge=0, description="Largest loss of the metric against the original model, in percentage points."
    )
    size_bytes: int | None = Field(default=None, gt=0, description="Largest size of the model file.")
    latency_p50_ms: float | None = Field(
        default=None,
        gt=0,
        description="Largest median latency of one inference on the machine that builds, in milliseconds.",
    )
    peak_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Largest peak resident memory of a process that loads and runs the model on the machine that builds.",
    )


class FidelitySection(Section):
    """How far the exported model may be from the compressed one, on the same samples."""

    top1_agreement_min: float = Field(
        default=0.995, ge=0, le=1, description="Smallest share of samples on which both predict the same class."
    )
    mean_steps_max: float = Field(
        default=0.75, gt=0, description="Largest mean difference of the outputs, in output quantization steps."
    )
    max_steps_max: float = Field(
        default=10.0, gt=0, description="Largest single difference of the outputs, in output quantization steps."
    )


class ParitySection(Section):
    """How far the runtimes of one build may be from each other, on the same samples; judged when several targets share a grid."""

    top1_agreement_min: float = Field(
        default=0.993, ge=0, le=1, description="Smallest share of samples on which two runtimes predict the same class."
    )
    metric_difference_points_max: float = Field(
        default=0.3, ge=0, description="Largest difference of the metric between two runtimes, in percentage points."
    )
    mean_steps_max: float = Field(
        default=0.75,
        gt=0,
        description="Largest mean difference of the outputs of two runtimes, in output quantization steps.",
    )
