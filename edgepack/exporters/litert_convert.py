"""The two libraries of the LiteRT route: litert_torch makes the float file, ai-edge-quantizer the integer layout of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import fx

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.exporters.litert_graph import read_graph
from edgepack.exporters.litert_pairing import Pairing, place
from edgepack.exporters.litert_tables import LOOKUP, quantizers_of
from edgepack.exporters.protocol import ExportOptions
from edgepack.network.model import Model
from edgepack.network.tracing import take_nhwc

_INSTEAD = {
    "int8": "replace it by one that has (relu, relu6, hardswish, sigmoid, tanh, …)",
    "int16": "replace it by one that has (relu, sigmoid, tanh, …), or quantize with activations_bits = 8",
}


def convert(module: fx.GraphModule, model: Model, turned: tuple[bool, ...], path: Path) -> None:
    """Write the float program as a .tflite file. Raises UnsupportedError with the converter's own reason."""
    import litert_torch

    examples = tuple(
        x.permute(0, 2, 3, 1).contiguous() if turn else x for x, turn in zip(model.example(), turned, strict=True)
    )
    take_nhwc(module, turned)
    module.training = False  # an exported program is always in evaluation mode, and refuses .eval()
    try:
        litert_torch.convert(module, examples).export(str(path))
    except Exception as exc:
        raise UnsupportedError(f"LiteRT can't take this model: {_reason(exc)}") from exc
    _name_borders(path, model)


def _name_borders(path: Path, model: Model) -> None:
    """Give the file's inputs and outputs the names of the recipe."""
    from ai_edge_litert.tools import flatbuffer_utils

    content, _graph = read_graph(path.read_bytes())
    signature = content.signatureDefs[0]
    for maps, specs in ((signature.inputs, model.inputs), (signature.outputs, model.outputs)):
        numbered = sorted(maps, key=lambda item: int(item.name.decode().rpartition("_")[2]))
        if len(numbered) != len(specs):
            raise StageError(
                f"the converter made {len(numbered)} inputs or outputs of {len(specs)}: one is unused or a constant"
            )
        for item, spec in zip(numbered, specs, strict=True):
            item.name = spec.name.encode()
    write_atomic(path, bytes(flatbuffer_utils.convert_object_to_bytearray(content)))


def lay_out(float_path: Path, pairing: Pairing, options: ExportOptions) -> bytes:
    """The integer graph by ai-edge-quantizer, from the given ranges instead of a calibration.

    Raises UnsupportedError for an operator that it leaves in float: that would cost a detour on every inference.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe

    is_wide = pairing.dtype == "int16"
    worker = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai16() if is_wide else recipe.static_wi8_ai8())
    if options.io_dtype == "float32":
        for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            worker.update_quantization_recipe(".*", border, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE)
    calibration = {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in pairing.ranges().items()
    }
    try:
        content = worker.quantize(calibration).quantized_model
    except (ValueError, RuntimeError, KeyError) as exc:
        raise UnsupportedError(
            f"ai-edge-quantizer can't lay out this graph in {pairing.dtype}: {_reason(exc)}"
        ) from exc
    if content is None:
        raise StageError("ai-edge-quantizer returned no model")
    _, graph = read_graph(bytes(content))
    for operator in graph.operators:
        in_float = [i for i in operator.outputs if i in graph.float_tensors]
        if operator.kind == LOOKUP and quantizers_of(operator, graph) and not is_wide:
            continue  # its table will be rounded
        if in_float and operator.kind not in ("QUANTIZE", "DEQUANTIZE"):
            raise UnsupportedError(
                f"LiteRT operator {operator.kind} at '{place(graph.names[in_float[0]])}' has no {pairing.dtype} form in ai-edge-quantizer; "
                + _INSTEAD[pairing.dtype]
            )
    return bytes(content)


def _reason(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if "failed to legalize" in line or "not supported" in line.lower() or "unsupported" in line.lower()
    ]
    return "\n".join((telling or lines)[:6])[:1500] or type(exc).__name__
