"""A script: reads a `.keras` file through Keras' torch backend and traces it with torch.export.

Usage: `python -m edgepack.sources.conversion.keras_to_program FOLDER` with `FOLDER/request.json`:

- `file`: the archive; `allow_code`: whether its Lambda layers may run,
- `inputs`: the shape of each input, without the batch, by name.

It leaves in FOLDER `program.pt2` (the batch is open), `about.json` (`inputs` and `outputs`: their names in order) and `probe.npz` (inputs `input_0` …, and what Keras
itself computes from them, `output_0` …); or `failure.json` with `error` (name of the class) and `message`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SEPARABLE = re.compile(r"/(depthwise|pointwise)_kernel\Z")
_PROBES = 3
_LARGEST_INDEX = 2  # of integer inputs that no embedding bounds


class _Failure(Exception):
    """What goes into failure.json."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def main(folder: Path) -> int:
    """Convert; 1 after a failure that has a name."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_HOME"] = str(folder / "keras_home")  # it would write its settings into the user's home
    warnings.simplefilter("ignore")
    try:
        _convert(request, folder)
    except _Failure as exc:
        (folder / "failure.json").write_text(json.dumps({"error": exc.error, "message": str(exc)}), encoding="utf-8")
        return 1
    return 0


def _convert(request: dict[str, Any], folder: Path) -> None:
    import numpy as np
    import torch

    model = _loaded(request)
    _in_float32(model)
    names = [tensor._keras_history.operation.name for tensor in model.inputs]
    probe = _probe(model, [request["inputs"][name] for name in names])
    wanted = _run(model, request["file"], probe)
    program = _traced(model, request["file"], probe)
    torch.export.save(program, folder / "program.pt2")
    arrays = {f"input_{index}": value.numpy() for index, value in enumerate(probe)}
    arrays |= {f"output_{index}": value.numpy() for index, value in enumerate(wanted)}
    np.savez(folder / "probe.npz", **arrays)
    about = {"inputs": names, "outputs": _output_names(model, len(wanted))}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _loaded(request: dict[str, Any]) -> Any:
    try:
        import keras
    except ImportError as exc:
        raise _Failure(
            "EnvironmentProblem",
            f"model.file: Keras can't be imported ({exc}); install it anew: pip install 'edgepack[keras]'",
        ) from exc
    file = request["file"]
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=not request["allow_code"])
    except Exception as exc:
        raise _Failure("SourceError", f"model.file: Keras can't load {file}: {_reason(exc)}") from exc
    if not getattr(model, "inputs", None):
        raise _Failure(
            "SourceError",
            f"model.file: {file}: a {type(model).__name__} without declared inputs; save a Functional or Sequential model that begins with keras.Input",
        )
    return model.eval()


def _in_float32(model: Any) -> None:
    """What was trained in mixed precision has float32 weights; edgepack's reference computes in float32, too."""
    import keras

    for layer in model._flatten_layers():
        policy = getattr(layer, "dtype_policy", None)
        if policy is not None and getattr(policy, "compute_dtype", None) in ("float16", "bfloat16"):
            layer.dtype_policy = keras.DTypePolicy("float32")


def _probe(model: Any, shapes: list[list[int]]) -> list[Any]:
    """Random inputs; the last sample is as large as the pixels of an image."""
    import torch

    generator = torch.Generator().manual_seed(0)
    sizes = [layer.input_dim for layer in model._flatten_layers() if type(layer).__name__ == "Embedding"]
    found = []
    for tensor, shape in zip(model.inputs, shapes, strict=True):
        dtype = getattr(torch, str(tensor.dtype))
        if dtype.is_floating_point:
            values = torch.randn((_PROBES, *shape), generator=generator)
            values[-1] = torch.rand(tuple(shape), generator=generator) * 255
        else:
            values = torch.randint(0, min(sizes, default=_LARGEST_INDEX), (_PROBES, *shape), generator=generator)
        found.append(values.to(dtype))
    return found


def _run(model: Any, file: str, inputs: list[Any]) -> list[Any]:
    """What Keras computes, as a flat list."""
    import torch
    from keras import tree

    from edgepack.sources.conversion.keras_layers import pooling_as_trained

    try:
        with torch.no_grad(), pooling_as_trained():
            return [value.detach() for value in tree.flatten(_called(model, inputs))]
    except Exception as exc:
        shapes = ", ".join(str(list(value.shape[1:])) for value in inputs)
        raise _Failure(
            "SourceError",
            f"model.file: {file}: Keras can't run the model on inputs of shape {shapes} with its torch backend: {_reason(exc)}",
        ) from exc


def _called(model: Any, inputs: Any) -> Any:
    """The model on inputs in its own structure."""
    from keras import tree

    struct = getattr(model, "_inputs_struct", model.inputs[0])  # a Sequential has one input
    return model(tree.pack_sequence_as(struct, list(inputs)), training=False)


def _traced(model: Any, file: str, inputs: list[Any]) -> Any:
    import torch

    from edgepack.sources.conversion.keras_layers import plain_layers

    try:
        with plain_layers():
            return torch.export.export(
                _Named(model).module(),
                tuple(inputs),
                strict=False,
                dynamic_shapes={"inputs": tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)},
            )
    except Exception as exc:
        raise _Failure(
            "UnsupportedError", f"model.file: {file}: torch.export can't trace the model: {_reason(exc)}"
        ) from exc


class _Named:
    """The model as a torch module whose parameters have the names of Keras' layers: Keras' own are invisible to torch.export."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.variables: dict[str, Any] = {}
        for variable in model.variables:
            path = _SEPARABLE.sub(r"/\1/kernel", variable.path).replace(".", "_")
            name, number = path, 1
            while name in self.variables:
                name, number = f"{path}_{number}", number + 1
            self.variables[name] = variable

    def module(self) -> Any:
        """Its forward puts the traced parameters in the place of Keras' values."""
        import torch
        from keras import tree

        named = self

        class Network(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, variable in named.variables.items():
                    if variable.trainable and variable.value.is_floating_point():
                        self.register_parameter(name, variable.value)
                    else:
                        self.register_buffer(name, variable.value.detach())

            def forward(self, *inputs: Any) -> Any:
                before = {name: variable._value for name, variable in named.variables.items()}
                try:
                    for name, variable in named.variables.items():
                        variable._value = getattr(self, name)
                    return tuple(tree.flatten(_called(named.model, inputs)))
                finally:
                    for name, variable in named.variables.items():
                        variable._value = before[name]

        return Network().eval()


def _output_names(model: Any, count: int) -> list[str]:
    """Keras' names of the outputs: the keys of a dict, else those of the layers that make them."""
    model = getattr(model, "_functional", model)  # what a Sequential runs
    struct = model._outputs_struct
    names = sorted(struct) if isinstance(struct, dict) else list(model.output_names)
    return names if len(names) == count == len(set(names)) else [f"output_{index}" for index in range(count)]


def _reason(exc: BaseException) -> str:
    """The line of a long message that says what happened."""
    text = _COLOURS.sub("", str(exc))
    text = text.rpartition("Exception encountered: ")[2] or text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines[:2])[:400]}" if lines else type(exc).__name__


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        sys.exit(2)
