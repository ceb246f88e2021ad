"""From a model to an openvino.Model whose names, shapes and bytes are the same each time, and to its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.openvino_core import openvino_core
from edgepack.exporters.protocol import ExportOptions
from edgepack.network.fold import program_of
from edgepack.network.model import Model
from edgepack.network.program import Program
from edgepack.network.tracing import batch_shapes

if TYPE_CHECKING:
    from edgepack.network.grid import Grid

_OPERATION = re.compile(r"\b(?:aten|prim|prims|quantized_decomposed)\.\w+(?:\.\w+)?")
_LINES_SHOWN = 4


def convert(model: Model, options: ExportOptions, *, made_up: Grid | None = None) -> tuple[Program, Any]:
    """The program, and the openvino.Model of it: activations' grids are FakeQuantize nodes, weights are float.

    Inputs and outputs have the names of the recipe. Raises UnsupportedError that names the operators OpenVINO has no conversion for, with their place.
    """
    program = program_of(model, quantizers=True, dynamic_batch=options.dynamic_batch, made_up=made_up)
    program.module.training = False  # an exported program is always in evaluation mode, and refuses .eval()
    shapes = batch_shapes(model) if options.dynamic_batch else None
    examples = model.example(2) if options.dynamic_batch else model.example()
    network = _translate(torch.export.export(program.module, examples, dynamic_shapes=shapes), program)
    _name_borders(network, model)
    batch = -1 if options.dynamic_batch else 1
    network.reshape({spec.name: [batch, *spec.shape[1:]] for spec in model.inputs})
    for parameter, spec in zip(network.get_parameters(), model.inputs, strict=True):
        if options.nhwc_inputs and spec.layout == "NCHW":
            _take_nhwc(parameter)
    _tidy(network)
    return program, network


def _translate(exported: torch.export.ExportedProgram, program: Program) -> Any:
    """Node by node, as `openvino.convert_model` does, but without its fusions: those move grids, and join them with sums and products.

    (A plugin fuses when it compiles the file, so nothing is lost.)
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder.from_exported_program(exported)  # must live until the conversion has ended
    try:
        return openvino.Model(frontend.convert(frontend.load(decoder)))
    except Exception as exc:
        raise UnsupportedError(f"OpenVINO can't take this model: {_reason(exc, program.module)}") from exc


def _tidy(network: Any) -> None:
    """Fold constants, and take conversions out that convert nothing."""
    from openvino.passes import ConstantFolding, Manager

    network.validate_nodes_and_infer_types()
    for node in network.get_ordered_ops():
        if node.get_type_name() in ("Convert", "ConvertPromoteTypes"):
            for output, value in zip(node.outputs(), node.input_values(), strict=True):
                if output.get_element_type() == value.get_element_type():
                    for target in output.get_target_inputs():
                        target.replace_source_output(value)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(network)


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
    try:
        openvino_core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
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


def _take_nhwc(parameter: Any) -> None:
    """Turn an NCHW input into an NHWC one. (Before the conversion, OpenVINO would pull the transposition through the input's grid.)"""
    from openvino import PartialShape
    from openvino import opset13 as ops

    users = parameter.output(0).get_target_inputs()
    n, c, h, w = parameter.get_partial_shape()
    parameter.set_partial_shape(PartialShape([n, h, w, c]))
    parameter.validate_and_infer_types()
    turned = ops.transpose(parameter, ops.constant([0, 3, 1, 2]))
    for user in users:
        user.replace_source_output(turned.output(0))


def _name_everything(network: Any, named: Collection[str]) -> None:
    """Names without the numbers that OpenVINO counts through a process, each once."""
    borders = [node.get_friendly_name() for node in (*network.get_parameters(), *network.get_results())]
    taken = Counter((*borders, *named))
    for node in network.get_ordered_ops():
        info = node.get_rt_info()
        for key in [key for key in info.keys() if key.startswith("fused_names")]:  # noqa: SIM118  # an RTMap is no dict
            del info[key]
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
    return ", ".join(_with_place(operation, module) for operation in named) or _lines(exc)


def _with_place(operation: str, module: torch.fx.GraphModule) -> str:
    """An operation with the first module that calls it; alone where torch made it of another one."""
    for node in module.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(operation):
            stack = node.meta.get("nn_module_stack") or {}
            path = next((str(path) for path, _ in reversed(stack.values()) if path), "")
            return f"{operation} at '{path}'" if path else operation
    return operation


def _lines(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines()]
    return "\n".join([line for line in lines if line and not line.startswith("Exception from")][:_LINES_SHOWN])[:1000]
