"""Small Keras models, made with Keras' torch backend."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


def keras() -> Any:
    """Keras, which would otherwise choose TensorFlow and write into the home folder; the test is skipped without it."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="keras-home-"))
    return pytest.importorskip("keras", reason="needs Keras: pip install 'edgepack[keras]'")


def write_tiny(network: torch.nn.Module, path: Path) -> None:
    """The small project's network in Keras, for NHWC images, with the values of `network`."""
    module = keras()
    layers = module.layers
    width = network.stem[0].out_channels  # type: ignore[index, union-attr]

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    image = layers.Input((8, 8, 1), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(image)
    stem = layers.ReLU(6.0)(norm(x, "stem_norm"))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(stem)
    x = layers.ReLU(6.0)(norm(x, "depthwise_norm"))
    x = norm(layers.Conv2D(width, 1, use_bias=False, name="pointwise")(x), "pointwise_norm")
    x = layers.ZeroPadding2D(1)(layers.Add(name="sum")([stem, x]))
    x = layers.Conv2D(2 * width, 3, strides=2, use_bias=False, name="down")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU(6.0)(norm(x, "down_norm")))
    model = module.Model(image, layers.Dense(4, name="scores")(x))
    with torch.no_grad():
        _copy(network, model)
    model.save(path)


_PAIRS = {
    "stem": "stem.0", "stem_norm": "stem.1", "depthwise": "block.0", "depthwise_norm": "block.1", "pointwise": "block.3",
    "pointwise_norm": "block.4", "down": "down.0", "down_norm": "down.1", "scores": "classifier",
}  # fmt: skip


def _copy(network: torch.nn.Module, model: Any) -> None:
    for name, other in _PAIRS.items():
        module: Any = network.get_submodule(other)
        if name == "scores":
            values = [module.weight.numpy().T, module.bias.numpy()]
        elif name.endswith("norm"):
            values = [one.numpy() for one in (module.weight, module.bias, module.running_mean, module.running_var)]
        else:
            order = (2, 3, 0, 1) if name == "depthwise" else (2, 3, 1, 0)
            values = [np.ascontiguousarray(module.weight.numpy().transpose(order))]
        model.get_layer(name).set_weights(values)
