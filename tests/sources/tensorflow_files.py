"""SavedModels, written by TensorFlow in a process of its own: it and torch have no business in one."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

WRITE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

class Model(tf.Module):
    def __init__(self, values):
        super().__init__()
        self.values = {name: tf.Variable(value, name=name.replace(".", "_")) for name, value in values.items()}

def save(function, folder, *specs, **more):
    model = Model(more)
    concrete = tf.function(lambda *args: function(model.values, *args)).get_concrete_function(*specs)
    tf.saved_model.save(model, folder, signatures=concrete)
    return model, concrete
"""
TINY = """
values = dict(np.load(sys.argv[1]))

def norm(v, x, name):
    return tf.nn.batch_normalization(x, v[name + ".running_mean"], v[name + ".running_var"], v[name + ".bias"], v[name + ".weight"], 1e-5)

def run(v, image):
    x = tf.nn.conv2d(image, v["stem.0.weight"], 1, "SAME")
    stem = tf.nn.relu6(norm(v, x, "stem.1"))
    x = tf.nn.depthwise_conv2d(stem, v["block.0.weight"], [1, 1, 1, 1], "SAME")
    x = tf.nn.relu6(norm(v, x, "block.1"))
    x = norm(v, tf.nn.conv2d(x, v["block.3.weight"], 1, "SAME"), "block.4")
    x = tf.nn.conv2d(stem + x, v["down.0.weight"], 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.reduce_mean(tf.nn.relu6(norm(v, x, "down.1")), [1, 2])
    return {"scores": tf.matmul(x, v["classifier.weight"]) + v["classifier.bias"]}

save(run, sys.argv[2], tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image"), **values)
"""
_made: dict[str, Path] = {}


def run_tensorflow(code: str, *args: str) -> None:
    """Run code with `save(function of variables and inputs, folder, *specs, **variables)`; the test is skipped without TensorFlow."""
    if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("tf2onnx") is None:
        pytest.skip("needs TensorFlow and tf2onnx: pip install 'edgepack[saved-model]'")
    done = subprocess.run(
        [sys.executable, "-c", WRITE + code, *args], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def write_tiny(network: torch.nn.Module, folder: Path) -> None:
    """The small project's network with the values of `network`, for NHWC images; made once for the same values."""
    orders = {"block.0.weight": (2, 3, 0, 1), "classifier.weight": (1, 0)}
    state = {name: value.numpy() for name, value in network.state_dict().items() if "tracked" not in name}
    values = {
        name: np.ascontiguousarray(value.transpose(orders.get(name, (2, 3, 1, 0)))) if value.ndim > 1 else value
        for name, value in state.items()
    }
    key = str([float(np.abs(value).sum()) for value in values.values()])
    if key not in _made:
        made = Path(tempfile.mkdtemp(prefix="saved-model-"))
        np.savez(made / "values.npz", **values)
        run_tensorflow(TINY, str(made / "values.npz"), str(made / "saved"))
        _made[key] = made / "saved"
    shutil.copytree(_made[key], folder)
