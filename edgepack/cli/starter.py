"""The text of a first edgepack.toml, from the models that read it: each option with its description and default."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgepack.recipe import (
    BudgetSection,
    BundleSection,
    DataSection,
    ExportSection,
    FidelitySection,
    InputSection,
    MetricSection,
    ModelSection,
    ParitySection,
    Recipe,
    TuneSection,
)

MARK = "# ← FILL IN"
_WIDTH = 110
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


def starter(
    *,
    name: str,
    factories: Sequence[str],
    weights: Sequence[str],
    input_shape: Sequence[int] | None,
    files: Sequence[str] = (),
) -> str:
    """A recipe that is valid as it stands; what has to be checked or filled in is marked. With `files`, the first is the model."""
    blocks = [
        _HEAD,
        "# --- The whole recipe. (These keys must come before the first table.)\n"
        + _keys(Recipe, {}, only=("targets", "update_of", "update_tolerance", "seed", "threads")),
        _table(
            "bundle", BundleSection, {"name": _plain_name(name)}, then=_also("labels", ["labels.txt", ["cat", "dog"]])
        ),
        *_model(factories, weights, input_shape, files),
        _DATA + _keys(DataSection, {}, only=("count", "seed", "sha256")),
        _provider(
            "train", "Samples for training steps (pruning, QAT). Labels are not needed: the float model teaches."
        ),
        _provider("evaluation", "Labelled samples that judge the result. Never used for training.", labels=True),
        _PREPROCESS,
        _table("metric", MetricSection, {}),
        _COMPRESS,
        _table("budget", BudgetSection, {"drop_points": 1.0}),
        _table("fidelity", FidelitySection, {}),
        _table("parity", ParitySection, {}),
        _table("export", ExportSection, {}),
        _table("tune", TuneSection, {}),
    ]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _model(
    factories: Sequence[str], weights: Sequence[str], input_shape: Sequence[int] | None, files: Sequence[str]
) -> list[str]:
    """`[model]` and its inputs, which a file knows itself."""
    shape = list(input_shape or (1, 28, 28))
    inputs = _table(
        "[model.inputs]", InputSection, {"shape": shape}, marked=set() if input_shape or files else {"shape"}
    )
    if files:
        if not input_shape:
            lines = [line if line.startswith("#") else f"# {line}" for line in inputs.splitlines() if line]
            inputs = "\n".join(
                [
                    "# The file knows its inputs; this table names them anew, and gives sizes that it leaves open.",
                    *lines,
                ]
            )
        return [
            _table("model", ModelSection, {"file": files[0]}, skip=("inputs",), then=_also("file", files[1:])),
            inputs,
        ]
    model = _table(
        "model",
        ModelSection,
        {"factory": (factories or ["model:build"])[0], **({"weights": weights[0]} if weights else {})},
        marked={} if factories else {"factory"},
        skip=("inputs",),
        then=_also("factory", factories[1:])
        + _also("weights", weights[1:] or ([] if weights else ["weights.safetensors"])),
    )
    return [model, inputs]


def toml_value(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _table(
    title: str,
    model: type[BaseModel],
    given: Mapping[str, Any],
    *,
    marked: Iterable[str] = (),
    skip: Sequence[str] = (),
    then: str = "",
) -> str:
    """A table with its keys: those given are set, the others are comments that show the default."""
    only = [key for key in model.model_fields if key not in skip]
    about = _comment((model.__doc__ or "").strip().splitlines()[0])
    return f"{about}\n[{title}]\n{_keys(model, given, only=only, marked=marked)}\n{then}"


def _keys(model: type[BaseModel], given: Mapping[str, Any], *, only: Iterable[str], marked: Iterable[str] = ()) -> str:
    lines = []
    for key in only:
        field = model.model_fields[key]
        lines.append(_comment(field.description or ""))
        if key in given:
            lines.append(f"{key} = {toml_value(given[key])}" + (f"  {MARK}" if key in marked else ""))
        elif field.default_factory is not None:
            lines.append(f"# {key} = {{}}")
        elif field.default is None or field.default is PydanticUndefined:
            lines.append(f"# {key} =")
        else:
            lines.append(f"# {key} = {toml_value(field.default)}")
    return "\n".join(lines)


def _provider(role: str, about: str, *, labels: bool = False) -> str:
    lines = [_comment(about), f"[data.{role}]", 'provider = "npz"', f'file = "data/{role}.npz"  {MARK}', 'x = "x"']
    return "\n".join([*lines, 'y = "y"'] if labels else lines)


def _also(key: str, values: Sequence[Any]) -> str:
    return "".join(f"# {key} = {toml_value(value)}\n" for value in values)


def _comment(text: str) -> str:
    return textwrap.fill(text, width=_WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _plain_name(name: str) -> str:
    """A folder's name as a bundle's name."""
    return _NOT_PLAIN.sub("-", name).strip("-._") or "model"


_HEAD = """
# The recipe of an edgepack build. Lines that begin with '# key =' show an option that is not set, with its default.
# docs/recipe.md lists every option. Check this file with: edgepack plan
# Editors complete it after: edgepack schema > edgepack.schema.json, and as the first line: #:schema edgepack.schema.json
"""

_DATA = """
# --- The samples, in three roles: train, calibration, evaluation. Each is a table that names a provider, whose options are its other keys:
#   npz           file, x, y, offsets, start, stop, step     arrays of a NumPy file
#   idx           folder, split, images, labels              the files of MNIST and its relatives
#   image_folder  folder                                     one folder of images per class
#   digits        split                                      handwritten digits, without a download
#   python        function, args, depends                    your own function
# docs/data.md explains them. Ranges are measured on [data.calibration], by default the first 300 samples of [data.train].
# Every data table may have these keys, too:
"""

_PREPROCESS = """
# --- From a raw sample to the model's input, in order. The same steps run in training, verification and the app.
# Ops: grayscale, center_crop, resize, to_float, normalize, layout; see docs/data.md. The result must be float32 in the input's shape.
# [[preprocess]]
# op = "resize"
# size = 28
[[preprocess]]
op = "to_float"
divide = 255.0
# [[preprocess]]
# op = "normalize"
# mean = [0.485, 0.456, 0.406]
# std = [0.229, 0.224, 0.225]
# [[preprocess]]                  # images: (height, width, channels) to the model's (channels, height, width)
# op = "layout"
# to = "CHW"
"""

_COMPRESS = """
# --- Compression, in order. docs/methods.md explains the methods, docs/recipe.md lists their options.
# Zero half of the weights before quantization: a smaller download, the same speed.
# [[compress]]
# method = "prune_magnitude"
# sparsity = 0.5
# train = { epochs = 5 }

# int8 weights and activations. mode = "ptq" needs no training; "qat" trains for a few epochs and loses less.
[[compress]]
method = "quantize"
mode = "qat"
train = { epochs = 5, batch_size = 32, learning_rate = 0.0001 }
"""
