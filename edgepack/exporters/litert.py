"""LiteRT (.tflite): convert in float, then impose the learned grid on the file.

The Q/DQ graph itself converts into a model that is slower than float, and ranges calibrated anew lose what training learned. So the
float network is converted, each of its tensors is found among the network's operations, ai-edge-quantizer is given exactly
the learned ranges to lay out the integer graph, and what it derives from them (scales, zero points, weight codes, biases) is then
replaced by the exact values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.core.types import Array, Progress, QuantParams, Samples
from edgepack.exporters.litert_graph import read_graph
from edgepack.exporters.litert_grid import impose
from edgepack.exporters.litert_pairing import Pairing, pair, place
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.network.fold import program_of
from edgepack.network.grid import grid_points, trace
from edgepack.network.model import Model, as_tensors

if TYPE_CHECKING:
    from edgepack.targets import NumericConstraints


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteRTExporter:
    """Writes `model.tflite` and, for comparison, `float.tflite`; the libraries' chatter goes to `export.log`."""

    options: ExportOptions

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files; see the module's description for how."""
        log = folder / "export.log"
        progress.start("Converting to LiteRT")
        float_path = folder / "float.tflite"
        with chatter_to(log):
            program = program_of(model)
            _convert(program.module, model, self._nhwc(model), float_path)
        progress.done()
        path = folder / "model.tflite"
        if not program.quantized:
            write_atomic(path, float_path.read_bytes())
            return Exported(path=path, float_path=float_path, format="litert")
        progress.start("Imposing the learned grid")
        with chatter_to(log):
            pairing = pair(float_path, program, self._border_values(model, probe), as_tensors(model, probe))
            laid_out = _lay_out(float_path, pairing, self.options)
            content, notes = impose(laid_out, pairing, program, float_content=float_path.read_bytes())
        write_atomic(path, content)
        progress.done(f"{len(pairing.params)} tensors, {len(program.layers)} layers")
        return Exported(
            path=path,
            float_path=float_path,
            format="litert",
            tensors={name: (op, pairing.params[name]) for name, op in pairing.paired.items()},
            notes=(*pairing.notes, *notes),
        )

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Path:
        """Convert the float model; with `constraints`, lay the integer graph out on a grid with made-up ranges."""
        progress.start("Checking that the target can take the model")
        path = folder / "float.tflite"
        with chatter_to(folder / "export.log"):
            program = program_of(model)
            _convert(program.module, model, self._nhwc(model), path)
            if constraints is not None:
                ops = trace(model.build().eval(), model.example())
                made_up = {name: QuantParams(scale=(1.0,), zero_point=(0,)) for name in grid_points(ops, constraints)}
                program = replace(program, activations=made_up)
                pairing = pair(path, program, self._border_values(model, probe), as_tensors(model, probe))
                _lay_out(path, pairing, self.options)
        progress.done()
        return path

    def _nhwc(self, model: Model) -> tuple[bool, ...]:
        """For each input, whether the file takes it as NHWC though the network wants NCHW."""
        return tuple(self.options.nhwc_inputs and spec.layout == "NCHW" for spec in model.inputs)

    def _border_values(self, model: Model, probe: Samples) -> list[Array]:
        arrays = [probe.inputs[spec.name] for spec in model.inputs]
        return [a.transpose(0, 2, 3, 1) if turn else a for a, turn in zip(arrays, self._nhwc(model), strict=True)]


def _take_nhwc(module: fx.GraphModule, turned: tuple[bool, ...]) -> None:
    """Let the program take some of its image inputs as NHWC. (Edited inside, so that tensors keep their module names.)"""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, turn in zip(placeholders, turned, strict=True):
        if turn:
            with module.graph.inserting_after(node):
                permuted = module.graph.call_function(torch.ops.aten.permute.default, (node, [0, 3, 1, 2]))
            node.replace_all_uses_with(permuted, delete_user_cb=lambda user, own=permuted: user is not own)
            node.meta.pop("val", None)
    module.recompile()


def _convert(module: fx.GraphModule, model: Model, turned: tuple[bool, ...], path: Path) -> None:
    import litert_torch

    examples = tuple(
        x.permute(0, 2, 3, 1).contiguous() if turn else x for x, turn in zip(model.example(), turned, strict=True)
    )
    _take_nhwc(module, turned)
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


def _lay_out(float_path: Path, pairing: Pairing, options: ExportOptions) -> bytes:
    """The integer graph by ai-edge-quantizer, from the given ranges instead of a calibration.

    Raises UnsupportedError for an operator that it leaves in float: that would cost a detour on every inference.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe

    worker = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai8())
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
        raise UnsupportedError(f"ai-edge-quantizer can't lay out this graph in int8: {_reason(exc)}") from exc
    if content is None:
        raise StageError("ai-edge-quantizer returned no model")
    _, graph = read_graph(bytes(content))
    for operator in graph.operators:
        in_float = [i for i in operator.outputs if i in graph.float_tensors]
        if in_float and operator.kind not in ("QUANTIZE", "DEQUANTIZE"):
            raise UnsupportedError(
                f"LiteRT operator {operator.kind} at '{place(graph.names[in_float[0]])}' has no int8 form in ai-edge-quantizer; "
                "replace it by one that has (relu, relu6, hardswish, sigmoid, tanh, …)"
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
