"""What outputs are worth in each metric."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.recipe.judging import MetricSection
from edgepack.stages.quality import hits, judged_by_hits, metric_ci, metric_drop, metric_value, metric_values

LABELS = np.array([0, 1, 1, 1])
SCORES = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # one of three positives missed


def test_every_metric_reads_the_same_outputs() -> None:
    values = metric_values(SCORES, LABELS, ("top1", "precision", "recall", "f1"))

    assert values == pytest.approx({"top1": 0.75, "precision": 1.0, "recall": 2 / 3, "f1": 0.8})


@pytest.mark.parametrize("metric", ["top1", "precision", "recall", "f1"])
def test_every_metric_has_an_interval_around_its_value(metric: str) -> None:
    low, high = metric_ci(SCORES, LABELS, metric)

    assert low <= metric_value(SCORES, LABELS, metric) <= high


def test_a_drop_of_f1_is_told_in_points() -> None:
    drop, (low, high) = metric_drop(np.eye(2)[LABELS], SCORES, LABELS, "f1")

    assert drop == pytest.approx(20.0)
    assert low <= drop <= high


def test_f1_is_no_share_of_samples() -> None:
    assert judged_by_hits("top5") and not judged_by_hits("f1")
    with pytest.raises(ValueError, match="no share of samples"):
        hits(SCORES, LABELS, "f1")


def test_f1_is_told_beside_accuracy_precision_and_recall() -> None:
    assert MetricSection(name="f1").also == ("top1", "precision", "recall")
    assert MetricSection().also == ()
    assert MetricSection(report=("f1", "top1", "f1")).also == ("f1",)
