"""ONNX: one graph of standard operators, quantized as Q/DQ pairs on the learned grid, with int8 weights.

The network is traced with a quantize/dequantize pair after every operation that has a grid, torch's exporter turns that into ONNX, and the
graph is then laid out as integer runtimes want it (`onnx_layout`, `onnx_layers`, `onnx_border`). The float graph for comparison is the same one
without its pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_atomic
from edgepack.core.section import Section
from edgepack.core.types import Array, Grid, Progress, QuantParams, Samples
from edgepack.exporters.protocol import Exported, ExportOptions

if TYPE_CHECKING:
    from edgepack.exporters.onnx_graph import Graph
    from edgepack.network.model import Model
    from edgepack.network.program import Layer, Program
    from edgepack.targets import NumericConstraints

FORMAT = "onnx"
_INT4_OPSET = 21


class OnnxExporter(Section):
    """Writes `model.onnx` and, for comparison, `float.onnx`; the libraries' chatter goes to `export.log`."""

    options: ExportOptions = ExportOptions()
    opset: int = Field(
        default=18,
        ge=18,
        le=23,
        description="Version of the ONNX operator set. 18 is what torch's exporter writes itself; newer ones are converted from it.",
    )
    activation_dtype: Literal["uint8", "int8"] = Field(
        default="uint8",
        description="Type of activations' codes, the same grid in both: `uint8` is fastest on x86 CPUs, TensorRT reads `int8` only.",
    )
    quantize_bias: bool = Field(default=True, description="Biases as int32 codes; TensorRT wants them in float.")
    on_codes: bool = Field(
        default=False,
        description="Write padding, and a ReLU or clip whose bounds are not the ends of its grid, as integer operators on codes: ONNX Runtime's CPU "
        "kernels would leave them, and the convolution before them, in float.",
    )
    int4_weights: bool = Field(
        default=False,
        description="Store weights of 4 bits so, two in a byte; a Cast makes int8 of them when the runtime loads the model. Needs operator set 21, which such "
        "files then have. `false`: as int8 with codes -7 … 7.",
    )
    operators: tuple[str, ...] = Field(
        default=(), description="ONNX operators that the device's runtime has. Default: all of the standard."
    )

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files; see the module's description for how."""
        from edgepack.network.model import is_hooked

        self._refuse_half(quantizes=is_hooked(model.network) or bool(model.weight_grids))
        progress.start("Converting to ONNX")
        path, float_path = folder / "model.onnx", folder / "float.onnx"
        with chatter_to(folder / "export.log"):
            made = self._make(model, float_path)
            if made.quantized is None:
                write_atomic(path, float_path.read_bytes())
            else:
                self._write(made.quantized, path)
        progress.done(f"{len(made.tensors)} tensors, {made.layers} layers")
        return Exported(
            path=path,
            float_path=float_path,
            format=FORMAT,
            tensors=made.tensors,
            grid=made.grid,
            codes=made.codes,
            notes=made.notes,
            added=made.added,
        )

    def adopt(self, path: Path) -> Exported:
        """Raises UnsupportedError: finished ONNX files are not taken over yet."""
        from edgepack.core.errors import UnsupportedError

        raise UnsupportedError(
            f"{path.name}: a finished ONNX file can't be taken over as it is; start from the float model"
        )

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Exported:
        """Convert the float model; with `constraints`, lay the pairs out on a grid with made-up ranges, too."""
        self._refuse_half(quantizes=constraints is not None)
        progress.start("Checking that the target can take the model")
        path = folder / "float.onnx"
        with chatter_to(folder / "export.log"):
            made = self._make(model, path, constraints)
            if made.quantized is not None:
                self._write(made.quantized, folder / "check.onnx")
        progress.done()
        return Exported(path=path, float_path=path, format=FORMAT)

    def _make(self, model: Model, float_path: Path, constraints: NumericConstraints | None = None) -> _Made:
        """Write the float file, and lay the quantized graph out when the model, or a made-up grid for `constraints`, quantizes."""
        from edgepack.exporters.onnx_convert import Form, convert, refuse_too_large
        from edgepack.exporters.onnx_layers import name_layers
        from edgepack.exporters.onnx_layout import pool_globally, without_pairs
        from edgepack.exporters.onnx_weights import write_codes
        from edgepack.network.fold import program_of

        nhwc = tuple(self.options.nhwc_inputs and spec.layout == "NCHW" for spec in model.inputs)
        half, dynamic = self.options.float_dtype == "float16", self.options.dynamic_batch
        has_int4 = bool(model.int4) or any(grid.bits == 4 for grid in model.weight_grids.values())
        opset = max(self.opset, _INT4_OPSET) if self.int4_weights and has_int4 else self.opset
        form = Form(opset=opset, nhwc=nhwc, half=half, dynamic_batch=dynamic)
        refuse_too_large(model, form)
        made_up = None if constraints is None else _made_up(model, constraints)
        program = program_of(model, quantizers=True, made_up=made_up, dynamic_batch=dynamic)
        graph, operations = convert(program, model, form)
        pool_globally(graph)
        plain = without_pairs(graph)
        name_layers(plain, program.layers)
        self._write(plain, float_path)
        if model.weight_grids:
            added = write_codes(plain, program.layers, model.weight_grids, as_int4=self.int4_weights)
            return _Made(quantized=plain, layers=len(model.weight_grids), added=added)
        return self._lay_out(graph, program, operations) if operations else _Made(layers=len(program.layers))

    def _lay_out(self, graph: Graph, program: Program, operations: Mapping[str, str]) -> _Made:
        from edgepack.exporters.onnx_border import codes_at_border
        from edgepack.exporters.onnx_layers import Form, write_layers
        from edgepack.exporters.onnx_layout import place_pairs
        from edgepack.exporters.onnx_tables import write_tables

        pairs = place_pairs(graph, operations, program.activations, dtype=self.activation_dtype, on_codes=self.on_codes)
        scales = {tensor: pair.params.scale[0] for tensor, pair in pairs.items()}
        form = Form(quantize_bias=self.quantize_bias, int4_weights=self.int4_weights)
        notes = write_layers(graph, program.layers, scales, form)
        added = write_tables(graph, as_int4=self.int4_weights)
        if self.options.io_dtype == "int8":
            codes_at_border(graph, self.activation_dtype)
        tensors = {tensor: (pair.operation, pair.params) for tensor, pair in pairs.items() if not pair.carried}
        return _Made(
            quantized=graph,
            tensors=tensors,
            grid=program.grid,
            codes=program.codes,
            notes=tuple(notes),
            added=(
                *added,
                *(("Cast",) * sum(_is_int4(layer) for layer in program.layers) if self.int4_weights else ()),
            ),
            layers=len(program.layers),
        )

    def _write(self, graph: Graph, path: Path) -> None:
        from edgepack.exporters.onnx_graph import refuse_unlisted, write_graph

        refuse_unlisted(graph, self.operators)
        write_graph(graph, path)

    def _refuse_half(self, *, quantizes: bool) -> None:
        if quantizes and self.options.float_dtype == "float16":
            raise UnsupportedError(
                'export.float_dtype = "float16" is the type of a model that is not quantized, and this recipe quantizes: '
                'remove the step "quantize", or float_dtype'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A laid-out graph (None for a float model), with what Exported says of it."""

    quantized: Graph | None = None
    tensors: Mapping[str, tuple[str, QuantParams]] = field(default_factory=dict)
    grid: Grid | None = None
    codes: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    layers: int = 0


def _is_int4(layer: Layer) -> bool:
    return layer.params is not None and layer.params.dtype == "int4"


def _made_up(model: Model, constraints: NumericConstraints) -> Grid:
    """A grid with made-up ranges at every point where training will put one. Weights have none: the float file must keep their values."""
    from edgepack.network.grid import made_up_grid, trace

    network = model.build().eval()
    return replace(made_up_grid(network, trace(network, model.example()), constraints), weights={})
