"""How outputs are compared."""

from __future__ import annotations

import numpy as np

from edgepack.stages.judge import steps_apart
from edgepack.stages.quality import hits


def test_steps_are_counted_in_the_outputs_own_grid() -> None:
    a, b = np.array([[0.0, 1.0]]), np.array([[0.5, 1.0]])

    assert steps_apart(a, b, 0.25).tolist() == [[2.0, 0.0]]


def test_an_output_without_a_grid_is_measured_in_256ths_of_its_range() -> None:
    a, b = np.array([[0.0, 255.0]]), np.array([[0.0, 254.0]])

    assert steps_apart(a, b, None).tolist() == [[0.0, 1.0]]


def test_outputs_that_are_all_zero_are_not_apart() -> None:
    zero = np.zeros((2, 3))

    assert not steps_apart(zero, zero, None).any()


def test_top5_is_a_hit_when_the_label_is_among_the_five_largest() -> None:
    scores = np.array([[9.0, 8, 7, 6, 5, 4], [9.0, 8, 7, 6, 5, 4]])

    assert hits(scores, np.array([4, 5]), "top5").tolist() == [True, False]
    assert hits(scores, np.array([0, 1]), "top1").tolist() == [True, False]
