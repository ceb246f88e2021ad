"""From a model to an openvino.Model whose names, shapes and bytes are the same each time, and to its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.exporters.protocol import ExportOptions
from edgepack.network.fold import Program, batch_shapes, program_of, take_nhwc
from edgepack.network.model import Model

if TYPE_CHECKING:
    from edgepack.network.grid import Grid

_OPERATION = re.compile(r"\b(?:aten|prim|prims|quantized_decomposed)\.\w+(?:\.\w+)?")
_LINES_SHOWN = 4


def convert(
    model: Model, options: ExportOptions, *, quantizers: bool = True, made_up: Grid | None = None
) -> tuple[Program, Any]:
    """The program, and the openvino.Model of it; with `quantizers`, activations' grids are FakeQuantize nodes. Weights are float.

    Inputs and outputs have the names of the recipe. Raises UnsupportedError that names the operators OpenVINO has no conversion for, with their place.
    """
    import openvino

    program = program_of(model, quantizers=quantizers, dynamic_batch=options.dynamic_batch, made_up=made_up)
    turned = tuple(options.nhwc_inputs and spec.layout == "NCHW" for spec in model.inputs)
    examples = model.example(2) if options.dynamic_batch else model.example()
    take_nhwc(program.module, turned)
    examples = tuple(
        x.permute(0, 2, 3, 1).contiguous() if turn else x for x, turn in zip(examples, turned, strict=True)
    )
    program.module.training = False  # an exported program is always in evaluation mode, and refuses .eval()
    exported = torch.export.export(
        program.module, examples, dynamic_shapes=batch_shapes(model) if options.dynamic_batch else None
    )
    try:
        network = openvino.convert_model(exported)
    except Exception as exc:
        raise UnsupportedError(f"OpenVINO can't take this model: {_reason(exc, program.module)}") from exc
    _name_borders(network, model)
    batch = -1 if options.dynamic_batch else 1
    network.reshape({spec.name: [batch, *x.shape[1:]] for spec, x in zip(model.inputs, examples, strict=True)})
    return program, network


def save(network: Any, path: Path, *, named: Collection[str] = (), to_float16: bool = False) -> None:
    """Write `path` (.xml) and its .bin. The same model gives the same bytes, whatever else the process has converted.

    Nodes whose names are in `named` keep them.
    """
    import openvino

    _name_everything(network, named)
    if to_float16:
        openvino.save_model(network, path, compress_to_fp16=True)
    else:
        openvino.serialize(network, path)


def compile_for_cpu(network: Any) -> None:
    """Raise UnsupportedError where OpenVINO can't compile the model for a CPU."""
    import openvino

    try:
        openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    except RuntimeError as exc:
        raise UnsupportedError(f"OpenVINO can't compile this model in int8: {_lines(exc)}") from exc


def _name_borders(network: Any, model: Model) -> None:
    for ports, specs in ((network.inputs, model.inputs), (network.outputs, model.outputs)):
        if len(ports) != len(specs):
            raise StageError(
                f"the converter made {len(ports)} inputs or outputs of {len(specs)}: one is unused or a constant"
            )
        for port, spec in zip(ports, specs, strict=True):
            port.get_node().set_friendly_name(spec.name)
            port.get_tensor().set_names({spec.name})


def _name_everything(network: Any, named: Collection[str]) -> None:
    """Names without the numbers that OpenVINO counts through a process, each once."""
    borders = [node.get_friendly_name() for node in (*network.get_parameters(), *network.get_results())]
    taken = Counter((*borders, *named))
    for node in network.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind in ("Parameter", "Result") or name in named:
            continue
        if kind == "Constant" or re.fullmatch(rf"{kind}_\d+", name):
            name = kind
        taken[name] += 1
        node.set_friendly_name(name if taken[name] == 1 else f"{name}#{taken[name]}")
        for output in node.outputs():
            if not any(target.get_node().get_type_name() == "Result" for target in output.get_target_inputs()):
                output.get_tensor().set_names(set())
    network.set_friendly_name("model")


def _reason(exc: Exception, module: torch.fx.GraphModule) -> str:
    """The operators that the converter doesn't know, each with the first module that calls it; else its own words."""
    named = sorted(set(_OPERATION.findall(str(exc))))
    places = []
    for operation in named:
        for node in module.graph.nodes:
            if node.op == "call_function" and str(node.target).startswith(operation):
                stack = node.meta.get("nn_module_stack") or {}
                path = next((str(path) for path, _ in reversed(stack.values()) if path), "")
                places.append(f"{operation} at '{path}'" if path else operation)
                break
    return ", ".join(places) or _lines(exc)


def _lines(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines()]
    return "\n".join([line for line in lines if line and not line.startswith("Exception from")][:_LINES_SHOWN])[:1000]
