"""LiteRT (.tflite): convert in float, then impose the learned grid on the file.

The Q/DQ graph itself converts into a model that is slower than float, and ranges calibrated anew lose what training learned. So the
float network is converted, each of its tensors is found among the network's operations, ai-edge-quantizer is given exactly
the learned ranges to lay out the integer graph, and what it derives from them (scales, zero points, weight codes, biases) is then
replaced by the exact values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from edgepack.core.chatter import chatter_to
from edgepack.core.errors import did_you_mean
from edgepack.core.files import write_atomic
from edgepack.core.section import Section
from edgepack.core.types import Array, Progress, QuantParams, Samples
from edgepack.exporters.litert_int4 import Int4Operator
from edgepack.exporters.litert_versions import HIGHEST_VERSIONS, check_versions
from edgepack.exporters.protocol import Exported, ExportOptions

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints


class LiteRTExporter(Section):
    """Writes `model.tflite` and, for comparison, `float.tflite`; the libraries' chatter goes to `export.log`."""

    options: ExportOptions = ExportOptions()
    oldest_runtime: str | None = Field(
        default=None,
        description="The oldest runtime that must run the file, such as 'tflite-runtime 2.14'; an operator of a newer version is refused.",
    )

    int4_operators: tuple[Int4Operator, ...] = Field(
        default=(),
        description="Operators whose kernels read int4 weights, two in a byte; those of other operators are stored as int8 with codes -7 … 7.",
    )

    @field_validator("options")
    @classmethod
    def _fits_the_format(cls, options: ExportOptions) -> ExportOptions:
        if options.dynamic_batch:
            raise ValueError(
                "export.dynamic_batch: a LiteRT file takes one sample at a time; leave it out for this target"
            )
        if options.float_dtype != "float32":
            raise ValueError(
                "export.float_dtype: LiteRT files are written in float32 or int8; leave it out for this target"
            )
        return options

    @field_validator("oldest_runtime")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in HIGHEST_VERSIONS:
            raise ValueError(f"no table of operator versions for '{name}'{did_you_mean(name, HIGHEST_VERSIONS)}")
        return name

    def export(self, model: Model, probe: Samples, folder: Path, *, progress: Progress) -> Exported:
        """Write the files; see the module's description for how."""
        from edgepack.exporters.litert_convert import convert, lay_out
        from edgepack.exporters.litert_grid import impose
        from edgepack.exporters.litert_lean import lean
        from edgepack.exporters.litert_pairing import pair
        from edgepack.exporters.litert_tables import quantizers_of_tables
        from edgepack.network.fold import program_of
        from edgepack.network.model import as_tensors

        log = folder / "export.log"
        progress.start("Converting to LiteRT")
        float_path = folder / "float.tflite"
        with chatter_to(log):
            program = program_of(model)
            convert(program.module, model, self._nhwc(model), float_path)
        progress.done()
        path = folder / "model.tflite"
        if not program.quantized:
            self._check_versions(float_path.read_bytes())
            write_atomic(path, float_path.read_bytes())
            return Exported(path=path, float_path=float_path, format="tflite")
        progress.start("Imposing the learned grid")
        with chatter_to(log):
            pairing = pair(float_path, program, self._border_values(model, probe), as_tensors(model, probe))
            laid_out = lay_out(float_path, pairing, self.options)
            imposed = impose(
                laid_out,
                pairing,
                program,
                float_content=float_path.read_bytes(),
                int4_operators=self.int4_operators,
            )
        self._check_versions(imposed.content)
        content, renamed = lean(imposed.content, imposed.parameters)
        write_atomic(path, content)
        progress.done(f"{len(pairing.params)} tensors, {len(program.layers)} layers")
        return Exported(
            path=path,
            float_path=float_path,
            format="tflite",
            tensors={
                renamed[name]: (op, pairing.params[name]) for name, op in pairing.paired.items() if name in renamed
            },
            grid=program.grid,
            codes=program.codes,
            notes=(*pairing.notes, *imposed.notes),
            added=(*imposed.added, *quantizers_of_tables(content)),
        )

    def adopt(self, path: Path) -> Exported:
        """A .tflite file as it is. Raises UnsupportedError for an operator too new for `oldest_runtime`."""
        self._check_versions(path.read_bytes())
        return Exported(
            path=path, float_path=path, format="tflite", notes=("taken over as it is, not compressed here",)
        )

    def check(
        self, model: Model, probe: Samples, folder: Path, *, constraints: NumericConstraints | None, progress: Progress
    ) -> Exported:
        """Convert the float model; with `constraints`, lay the integer graph out on a grid with made-up ranges."""
        from edgepack.exporters.litert_convert import convert, lay_out
        from edgepack.exporters.litert_pairing import pair
        from edgepack.network.fold import program_of
        from edgepack.network.grid import grid_points, trace
        from edgepack.network.model import as_tensors

        progress.start("Checking that the target can take the model")
        path = folder / "float.tflite"
        with chatter_to(folder / "export.log"):
            program = program_of(model)
            convert(program.module, model, self._nhwc(model), path)
            self._check_versions(path.read_bytes())
            if constraints is not None:
                ops = trace(model.build().eval(), model.example())
                dtype = "int16" if constraints.activations_bits > 8 else "int8"
                made_up = {
                    name: QuantParams(scale=(1.0,), zero_point=(0,), dtype=dtype)
                    for name in grid_points(ops, constraints)
                }
                program = replace(program, activations=made_up)
                pairing = pair(path, program, self._border_values(model, probe), as_tensors(model, probe))
                self._check_versions(lay_out(path, pairing, self.options))
        progress.done()
        return Exported(path=path, float_path=path, format="tflite")

    def _check_versions(self, content: bytes) -> None:
        if self.oldest_runtime is not None:
            check_versions(content, self.oldest_runtime)

    def _nhwc(self, model: Model) -> tuple[bool, ...]:
        """For each input, whether the file takes it as NHWC though the network wants NCHW."""
        return tuple(self.options.nhwc_inputs and spec.layout == "NCHW" for spec in model.inputs)

    def _border_values(self, model: Model, probe: Samples) -> list[Array]:
        arrays = [probe.inputs[spec.name] for spec in model.inputs]
        return [a.transpose(0, 2, 3, 1) if turn else a for a, turn in zip(arrays, self._nhwc(model), strict=True)]
