"""OpenVINO IR (model.xml and model.bin): the program with its quantizers is converted, and int8 weights take the place of float ones.

OpenVINO states an activation's grid as a FakeQuantize node with the ends of its range, and weights as int8 constants with their
scales; the plugin of a device makes integer kernels of both when it compiles the file. So nothing is calibrated or rounded anew here: the
ranges are those of the trained grid, the constants are the trained codes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import UnsupportedError
from edgepack.core.section import Section
from edgepack.core.types import Progress, Samples
from edgepack.exporters.protocol import Exported, ExportOptions

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.network.program import Program
    from edgepack.targets import NumericConstraints

FORMAT = "openvino"


class OpenVINOExporter(Section):
    """Writes `model.xml` with `model.bin` and, for comparison, `float.xml` with `float.bin`; the library's chatter goes to `export.log`."""

    options: ExportOptions = ExportOptions()
    round_before_sums: bool = Field(
        default=True,
        description="What a residual sum adds is rounded first, as trained, also where OpenVINO on a CPU would leave that rounding out.",
    )

    int4_weights: bool = Field(
        default=False,
        description="Store weights of 4 bits so, two in a byte; a Convert makes int8 of them when the model is compiled. `false`: as int8 with codes -7 … 7.",
    )

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files; see the module's description for how. `probe` is not needed: nodes are found by name."""
        from edgepack.exporters.openvino_grid import impose, without_grids
        from edgepack.exporters.openvino_ir import convert, save
        from edgepack.exporters.openvino_weights import write_codes

        progress.start("Converting to OpenVINO")
        path, float_path = folder / "model.xml", folder / "float.xml"
        with chatter_to(folder / "export.log"):
            program, network = convert(model, self.options)
            self._refuse_half(quantizes=program.quantized or bool(model.weight_grids))
            save(without_grids(network), float_path)
            tensors = impose(
                network,
                program,
                io_dtype=self.options.io_dtype,
                round_before_sums=self.round_before_sums,
                int4_weights=self.int4_weights,
            )
            write_codes(network, program, model.weight_grids, as_int4=self.int4_weights)
            save(network, path, named=tensors.keys(), to_float16=self.options.float_dtype == "float16")
        progress.done(f"{len(tensors)} tensors, {len(program.layers)} layers" if program.quantized else "")
        return Exported(
            path=path,
            companions=(path.with_suffix(".bin"),),
            float_path=float_path,
            format=FORMAT,
            tensors=tensors,
            grid=program.grid if program.quantized else None,
            codes=program.codes,
            notes=() if self.int4_weights else _stored_as_int8(program),
        )

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Exported:
        """Convert the float model; with `constraints`, lay the integer graph out on a grid with made-up ranges and compile it."""
        from edgepack.exporters.openvino_grid import impose, without_grids
        from edgepack.exporters.openvino_ir import compile_for_cpu, convert, save
        from edgepack.network.grid import made_up_grid, trace

        self._refuse_half(quantizes=constraints is not None)
        progress.start("Checking that the target can take the model")
        path = folder / "float.xml"
        with chatter_to(folder / "export.log"):
            made_up = None
            if constraints is not None:
                fresh = model.build().eval()
                made_up = made_up_grid(fresh, trace(fresh, model.example()), constraints)
            program, network = convert(model, self.options, made_up=made_up)
            save(without_grids(network), path)
            if constraints is not None:
                impose(network, program, io_dtype=self.options.io_dtype, round_before_sums=self.round_before_sums)
                compile_for_cpu(network)
        progress.done()
        return Exported(path=path, companions=(path.with_suffix(".bin"),), float_path=path, format=FORMAT)

    def _refuse_half(self, *, quantizes: bool) -> None:
        if quantizes and self.options.float_dtype == "float16":
            raise UnsupportedError(
                'export.float_dtype = "float16" is the type of a model that is not quantized, and this recipe quantizes: '
                'remove the step "quantize", or float_dtype'
            )


def _stored_as_int8(program: Program) -> tuple[str, ...]:
    names = sorted(name for name, params in program.grid.weights.items() if params.dtype == "int4")
    return (
        (f"the 4-bit weights of {len(names)} layer(s) are stored as int8 for this target: {', '.join(names)}",)
        if names
        else ()
    )
