"""What outputs are worth in the recipe's metric: its value, how sure that is, and how much of it one model has lost against another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.core.types import Array

Labels = NDArray[np.int64]


def judged_by_hits(metric: str) -> bool:
    """Whether a metric is the share of samples that are right, each by itself."""
    return not _is_class_score(metric)


def hits(outputs: Array, labels: Labels, metric: str) -> NDArray[np.bool_]:
    """Which samples a model gets right: its largest ('top1') output or one of its five largest ('top5') is the label."""
    scores = flat(outputs)
    if metric == "top1":
        return np.asarray(scores.argmax(1) == labels)
    if metric != "top5":
        raise ValueError(f"{metric} is no share of samples")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return np.asarray((best == labels[:, None]).any(1))


def metric_value(outputs: Array, labels: Labels, metric: str) -> float:
    """The metric of some outputs of shape (N, classes), in 0…1. `labels` are class indices of shape (N,)."""
    if _is_class_score(metric):
        scores = flat(outputs)
        return stats.class_score(labels, scores.argmax(1), metric, classes=scores.shape[1])
    return float(hits(outputs, labels, metric).mean())


def metric_ci(outputs: Array, labels: Labels, metric: str) -> stats.Interval:
    """The 95 % interval of the metric: Wilson's for shares of samples, a bootstrap over samples for precision, recall and F1."""
    if _is_class_score(metric):
        scores = flat(outputs)
        return stats.class_score_ci(labels, scores.argmax(1), metric, classes=scores.shape[1])
    return stats.binomial_ci(int(hits(outputs, labels, metric).sum()), len(labels))


def metric_drop(a: Array, b: Array, labels: Labels, metric: str) -> tuple[float, stats.Interval]:
    """The metric of outputs a minus that of b on the same samples, and its 95 % interval, in percentage points."""
    if _is_class_score(metric):
        scores = flat(a)
        return stats.class_score_drop(labels, scores.argmax(1), flat(b).argmax(1), metric, classes=scores.shape[1])
    return stats.paired_drop(hits(a, labels, metric), hits(b, labels, metric))


def interval_words(metric: str) -> str:
    """How the interval of a drop was found."""
    return "paired bootstrap over samples" if _is_class_score(metric) else "paired interval"


def metric_values(outputs: Array, labels: Labels, metrics: Iterable[str]) -> dict[str, float]:
    """Several metrics of the same outputs, by name."""
    return {name: metric_value(outputs, labels, name) for name in metrics}


def flat(array: Array) -> Array:
    """One row for each sample."""
    return array.reshape(len(array), -1)


def _is_class_score(metric: str) -> TypeGuard[stats.ClassScore]:
    return metric in ("precision", "recall", "f1")
