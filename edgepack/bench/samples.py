"""Evaluation samples for a device: the very bytes that the bundle was verified with, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepack.core.errors import StageError
from edgepack.core.types import Array
from edgepack.records import Accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSamples:
    """Preprocessed samples as the models take them.

    `files` has for each model's label the `.npy` file of each input, of shape (N, …). `labels` are int64 of shape (N,). `output` is the judged output's
    name. `expected` are the outputs of the bundle's model here, by label, as stored codes of shape (N, …), where they are known; `steps` the size of one
    output step in the units that the file gives (1 for codes). `inputs_sha256` is of the preprocessed float bytes, as in the parity report.
    """

    files: Mapping[str, Mapping[str, Path]]
    labels: NDArray[np.int64]
    output: str
    metric: str
    inputs_sha256: str
    expected: Mapping[str, Array]
    steps: Mapping[str, float]


def accuracy_of(samples: BenchSamples, label: str, outputs: Path) -> Accuracy:
    """Judge the outputs that a device wrote (`.npz`). Raises StageError when they don't fit the samples."""
    from edgepack.stages.quality import hits

    with np.load(outputs, allow_pickle=False) as content:
        if samples.output not in content.files:
            raise StageError(f"bench {label}: the device gave {content.files}, not the output '{samples.output}'")
        scores = content[samples.output].reshape(len(content[samples.output]), -1)
    if len(scores) != len(samples.labels):
        raise StageError(f"bench {label}: the device gave {len(scores)} outputs for {len(samples.labels)} samples")
    scores = scores.astype(np.float64)
    correct = hits(scores, samples.labels, samples.metric)
    agreement = max_steps = None
    if (expected := samples.expected.get(label)) is not None:
        here = expected.reshape(len(expected), -1).astype(np.float64)
        agreement = float((here.argmax(1) == scores.argmax(1)).mean())
        max_steps = float(np.abs(here - scores).max()) / samples.steps[label]
    return Accuracy(
        metric=samples.metric,
        value=float(correct.mean()),
        correct=tuple(bool(one) for one in correct),
        inputs_sha256=samples.inputs_sha256,
        agreement=agreement,
        max_steps=max_steps,
    )
