"""Precision, recall and F1 of a classifier, and how sure they are: nothing here is a share of samples, so their intervals are bootstrapped.

Definitions are scikit-learn's (`precision_recall_fscore_support`, https://scikit-learn.org/stable/modules/model_evaluation.html): of two classes,
those of class 1 (`average="binary"`, `pos_label=1`); of more, the plain mean over the classes that occur among labels or predictions
(`average="macro"`); 0 where nothing is to be divided (`zero_division=0`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.stats.intervals import CONFIDENCE, Interval

ClassScore = Literal["precision", "recall", "f1"]
_RESAMPLES = 10_000
_CHUNK_VALUES = 2_000_000  # counts held at a time
_Floats = NDArray[np.float64]


def class_score(labels: NDArray[np.int64], predicted: NDArray[np.int64], score: ClassScore, *, classes: int) -> float:
    """Precision, recall or F1 in 0…1. `labels` and `predicted` are class indices of shape (N,), smaller than `classes`.

    Raises ValueError unless both are equally long and not empty.
    """
    cells, counts = _cells((labels, predicted))
    return float(_scores(counts[None].astype(np.float64), cells[:, 0], cells[:, 1], score, classes)[0])


def class_score_ci(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    score: ClassScore,
    *,
    classes: int,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of a score over samples (Efron & Tibshirani, 1993, §13.3), with a fixed seed."""
    cells, counts = _cells((labels, predicted))
    drawn = [_scores(part, cells[:, 0], cells[:, 1], score, classes) for part in _resampled(counts, classes, seed)]
    return _percentiles(np.concatenate(drawn), confidence)


def class_score_drop(
    labels: NDArray[np.int64],
    predicted_a: NDArray[np.int64],
    predicted_b: NDArray[np.int64],
    score: ClassScore,
    *,
    classes: int,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, Interval]:
    """The score of a minus that of b on the same samples, and its interval, in percentage points.

    Samples are resampled with both answers together (the paired percentile bootstrap), so only those on which the models disagree widen the
    interval; where they never disagree it has width 0, which no number of samples justifies.
    """
    cells, counts = _cells((labels, predicted_a, predicted_b))

    def drops(weights: _Floats) -> _Floats:
        a, b = (_scores(weights, cells[:, 0], cells[:, column], score, classes) for column in (1, 2))
        return 100 * (a - b)

    drawn = np.concatenate([drops(part) for part in _resampled(counts, classes, seed)])
    return float(drops(counts[None].astype(np.float64))[0]), _percentiles(drawn, confidence)


def _cells(columns: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The combinations of label and answers that occur, of shape (cells, columns), and how often each does."""
    if len({len(column) for column in columns}) != 1 or not len(columns[0]):
        raise ValueError(f"need equally long, non-empty sequences, got {[len(column) for column in columns]} values")
    cells, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    return cells.astype(np.int64), counts.astype(np.int64)


def _resampled(counts: NDArray[np.int64], classes: int, seed: int) -> list[_Floats]:
    """How often each combination occurs in 10,000 resamples of the samples: multinomial, which is the plain bootstrap. In parts that fit memory."""
    generator, total = np.random.default_rng(seed), int(counts.sum())
    size = max(1, min(_RESAMPLES, _CHUNK_VALUES // max(len(counts), classes)))
    sizes = [min(size, _RESAMPLES - start) for start in range(0, _RESAMPLES, size)]
    return [generator.multinomial(total, counts / total, size=part).astype(np.float64) for part in sizes]


def _scores(
    weights: _Floats, labels: NDArray[np.int64], predicted: NDArray[np.int64], score: ClassScore, classes: int
) -> _Floats:
    """The score for each row of `weights`, which says how often each combination of label and answer occurs."""
    kinds = np.unique(np.concatenate((labels, predicted)))
    right = weights @ ((labels[:, None] == kinds) & (predicted[:, None] == kinds)).astype(np.float64)
    actual = weights @ (labels[:, None] == kinds).astype(np.float64)
    answered = weights @ (predicted[:, None] == kinds).astype(np.float64)
    whole = {"precision": answered, "recall": actual, "f1": (answered + actual) / 2}[score]
    by_class = np.divide(right, whole, out=np.zeros_like(right), where=whole > 0)
    if classes == 2:
        return np.asarray(by_class[:, kinds == 1].sum(axis=1))
    occurs = (answered + actual) > 0
    return np.asarray((by_class * occurs).sum(axis=1) / occurs.sum(axis=1))


def _percentiles(drawn: _Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    return float(np.quantile(drawn, tail, method="lower")), float(np.quantile(drawn, 1 - tail, method="higher"))
