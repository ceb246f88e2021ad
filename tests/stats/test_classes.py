"""Precision, recall and F1: values by hand, and intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack import stats

LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 1])
PREDICTED = np.array([0, 1, 1, 1, 1, 1, 0, 0])  # of class 1: 3 right, 2 false alarms, 2 missed


@pytest.mark.parametrize(("score", "value"), [("precision", 3 / 5), ("recall", 3 / 5), ("f1", 6 / 10)])
def test_of_two_classes_the_score_is_that_of_class_1(score: stats.ClassScore, value: float) -> None:
    assert stats.class_score(LABELS, PREDICTED, score, classes=2) == pytest.approx(value)


def test_of_more_classes_the_score_is_the_mean_over_those_that_occur() -> None:
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 4])

    # As scikit-learn: classes 0, 1, 2 and 4 count, 3 does not; 2 and 4 have no right answer.
    assert stats.class_score(labels, predicted, "precision", classes=5) == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert stats.class_score(labels, predicted, "recall", classes=5) == pytest.approx((1 / 2 + 1 + 0 + 0) / 4)
    assert stats.class_score(labels, predicted, "f1", classes=5) == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)


def test_a_class_that_is_never_answered_scores_0() -> None:
    never = np.zeros(8, np.int64)

    assert [stats.class_score(LABELS, never, score, classes=2) for score in ("precision", "recall", "f1")] == [0, 0, 0]


def test_a_drop_is_the_difference_in_points_and_its_interval_surrounds_it() -> None:
    perfect = LABELS.copy()

    drop, (low, high) = stats.class_score_drop(LABELS, perfect, PREDICTED, "f1", classes=2)

    assert drop == pytest.approx(40.0)
    assert low <= drop <= high
    assert (drop, (low, high)) == stats.class_score_drop(LABELS, perfect, PREDICTED, "f1", classes=2)


def test_models_that_answer_alike_differ_by_nothing() -> None:
    assert stats.class_score_drop(LABELS, PREDICTED, PREDICTED, "recall", classes=2) == (0.0, (0.0, 0.0))


def test_the_interval_of_recall_is_about_that_of_a_share() -> None:
    labels = np.repeat([1, 0], [400, 200])
    predicted = np.concatenate([np.repeat([1, 0], [320, 80]), np.zeros(200, np.int64)])

    low, high = stats.class_score_ci(labels, predicted, "recall", classes=2)

    assert (low, high) == pytest.approx(stats.binomial_ci(320, 400), abs=0.006)


def test_intervals_hold_the_true_drop_in_about_95_of_100_repetitions() -> None:
    generator = np.random.default_rng(1)
    # Half of the samples are positive; a finds 90 % of each class, b 85 %, independently: F1 is 0.90 and 0.85.
    held = 0
    for _ in range(40):
        labels = generator.integers(0, 2, 300)
        a, b = (np.where(generator.random(300) < right, labels, 1 - labels) for right in (0.90, 0.85))
        low, high = stats.class_score_drop(labels, a, b, "f1", classes=2)[1]
        held += low <= 5.0 <= high

    assert held >= 34  # below it with probability 0.003 if they hold 95 %


def test_sequences_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        stats.class_score(LABELS, PREDICTED[:3], "f1", classes=2)
