"""Networks of the zoo after PTQ and a few steps of QAT, with the samples to compare on; made once a session."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.methods.protocol import Context
from edgepack.methods.quantize import Quantize
from edgepack.network.bias import round_biases
from edgepack.network.model import Model, float_network
from edgepack.network.train import Trainer
from edgepack.network.training import Training
from edgepack.targets import load_target
from exporters.zoo import MORE, ZOO, make


@dataclass(frozen=True, kw_only=True)
class Case:
    model: Model
    samples: Samples
    original: Model


def float_case(name: str, *, samples: int = 24) -> tuple[Model, Samples]:
    """A network of the zoo as it is, and samples of its shape."""
    _, shape = (ZOO | MORE)[name]
    network = make(name)
    with torch.no_grad():
        out = network(torch.zeros(1, *shape))
    outputs = out if isinstance(out, tuple) else (out,)
    names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    model = Model(
        network=network,
        build=functools.partial(make, name),
        inputs=(TensorSpec(name="input", shape=(1, *shape), layout="NCHW" if len(shape) == 3 else "any"),),
        outputs=tuple(TensorSpec(name=n, shape=tuple(o.shape)) for n, o in zip(names, outputs, strict=True)),
    )
    rng = np.random.default_rng(0)
    return model, Samples(inputs={"input": rng.normal(size=(samples, *shape)).astype(np.float32)})


@functools.cache
def quantized(name: str, *, steps: int = 6, target: str = "arm64", activations_bits: Literal[8, 16] = 8) -> Case:
    """A network of the zoo on a target's grid. Nobody changes it: exporters leave a model as it was."""
    model, samples = float_case(name)
    with tempfile.TemporaryDirectory() as folder:
        constraints = load_target(target).numbers(activations_bits=activations_bits)
        context = Context(
            original=model, train=samples, calibration=samples.take(slice(0, 12)), constraints=constraints,
            workspace=Path(folder), key="zoo", seed=0, progress=Silent(),
        )  # fmt: skip
        teacher = float_network(model)
        compressed = Quantize(mode="ptq", activations_bits=activations_bits).apply(model, context)
        training = Training(steps=steps, batch_size=8, learning_rate=1e-3)
        trainer = Trainer(compressed, teacher, samples, training, checkpoint=Path(folder) / "c.pt", key="zoo", seed=0)
        trainer.run(Silent(), what="QAT")
        round_biases(compressed)
    return Case(model=compressed, samples=samples, original=float_case(name)[0])
