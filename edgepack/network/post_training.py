"""Post-training quantization (PTQ) with NNCF: quantizers on the grid that a target's kernels can represent, their ranges measured on samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nncf
import torch
from nncf.common.quantization.structs import QuantizationScheme
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix, QuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Progress, Samples
from edgepack.network.counted import Counted
from edgepack.network.model import Model, as_tensors
from edgepack.targets import NumericConstraints


def post_training(
    model: Model,
    samples: Samples,
    constraints: NumericConstraints,
    *,
    corrects_biases: bool,
    range_estimator: str,
    aligns_channels: bool,
    log: Path,
    progress: Progress,
) -> Any:
    """The network with NNCF's hooks, which round weights and activations; `log` takes what NNCF says meanwhile.

    `range_estimator` is an estimator of NNCF in lower case, for activations of 8 bits; wider ones have the extremes. Raises UnsupportedError for
    a network that NNCF can't take.
    """
    progress.start("Measuring ranges (PTQ)", total=len(samples))

    def batches() -> Iterator[Any]:
        for batch in samples.batches(1):
            progress.advance()
            tensors = as_tensors(model, batch)
            yield tensors if len(tensors) > 1 else tensors[0]

    parameters = _parameters(
        constraints, corrects_biases=corrects_biases, range_estimator=range_estimator, aligns_channels=aligns_channels
    )
    try:
        with chatter_to(log), torch.no_grad():
            network = nncf.quantize(
                model.network,
                nncf.Dataset(Counted(batches, len(samples))),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(samples),
                fast_bias_correction=True,
                ignored_scope=nncf.IgnoredScope(types=_left_to_the_grid(constraints), validate=False),
                advanced_parameters=parameters,
            )
    except (
        nncf.UnsupportedModelError,
        nncf.InternalError,
        nncf.ValidationError,
        nncf.UnsupportedDatasetError,
    ) as exc:
        raise UnsupportedError(f"NNCF can't quantize this model: {exc}") from exc
    progress.done(f"{len(samples)} calibration samples")
    return network


def _left_to_the_grid(constraints: NumericConstraints) -> list[str]:
    """Kinds of operations that NNCF 3.4 fails at: it takes a layer norm's scale for a weight with one grid per channel, and knows no 16-bit resize."""
    return ["layer_norm", *(["interpolate"] if constraints.activations_bits > 8 else [])]


def _parameters(
    constraints: NumericConstraints, *, corrects_biases: bool, range_estimator: str, aligns_channels: bool
) -> AdvancedQuantizationParameters:
    """NNCF's advanced parameters for a grid: the target says what kernels can represent."""
    estimator = "MINMAX" if constraints.activations_bits > 8 else range_estimator.upper()
    return AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.FIRST_LAYER if constraints.overflow_fix else OverflowFix.DISABLE,
        quantize_outputs=constraints.quantize_outputs,
        disable_bias_correction=not corrects_biases,
        activations_quantization_params=QuantizationParameters(
            num_bits=constraints.activations_bits,
            per_channel=constraints.activations_per_channel,
            mode=QuantizationScheme.SYMMETRIC if constraints.activations_symmetric else QuantizationScheme.ASYMMETRIC,
        ),
        weights_quantization_params=QuantizationParameters(
            num_bits=constraints.weights_bits,
            per_channel=constraints.weights_per_channel,
            mode=QuantizationScheme.SYMMETRIC if constraints.weights_symmetric else QuantizationScheme.ASYMMETRIC,
        ),
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, estimator),
        disable_channel_alignment=not aligns_channels,
    )
