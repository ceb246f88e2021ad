"""Whole benches from given run medians, for the tests of what compares and judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from made_runs import CONDITIONS, DEVICE, ENVIRONMENT, SUBJECT, report, run

from edgepack.records import Accuracy, DeviceName, RunRecord, RunSummary


def bench_of(
    medians_ms: Mapping[str, Sequence[float]],
    *,
    bench: str = "b1",
    device: DeviceName = DEVICE,
    correct: Mapping[str, Sequence[bool]] | None = None,
    sizes: Mapping[str, int] | None = None,
    environment: Mapping[str, Any] | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> list[RunRecord]:
    """Interleaved runs of several labels, the median of run i being medians_ms[label][i]; instructions where the environment's clock says so."""
    surroundings = replace(ENVIRONMENT, **(environment or {}))
    records = []
    for position, (label, medians) in enumerate(medians_ms.items()):
        sha256 = f"{position:02d}" * 32
        subject = replace(
            SUBJECT, label=label, model_sha256=sha256, size_bytes=(sizes or {}).get(label, SUBJECT.size_bytes)
        )
        answers = (correct or {}).get(label)
        accuracy = None
        if answers is not None:
            value = float(np.mean(answers))
            accuracy = Accuracy(metric="top1", value=value, correct=tuple(answers), inputs_sha256="ef" * 32)
        records += [
            run(
                number,
                bench=bench,
                device=device,
                subject=subject,
                conditions=replace(CONDITIONS, **(conditions or {})),
                position=position,
                report=report((round(median * 1e6),) * 3, model_sha256=sha256, environment=surroundings),
                accuracy=accuracy,
            )
            for number, median in enumerate(medians)
        ]
    return records


def summaries(records: Sequence[RunRecord], label: str) -> list[RunSummary]:
    """Of one label's runs."""
    return [RunSummary.of(one) for one in records if one.subject.label == label]


def noisy_ms(count: int, *, seed: int = 0, spread: float = 0.01, drift: float = 0.2) -> list[float]:
    """Run medians around 1 ms; those of one seed share a drift, so that pairs of them are quieter than they are."""
    day = np.exp(np.random.default_rng(99).normal(0, drift, count))
    found: list[float] = (day * np.exp(np.random.default_rng(seed).normal(0, spread, count))).tolist()
    return found
