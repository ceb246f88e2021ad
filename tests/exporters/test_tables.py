"""Embedding tables: rounded once, to 8 or to 4 bits, and looked up alike by every runtime."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Samples, Silent, TensorSpec
from edgepack.exporters import EXPORTERS
from edgepack.exporters.protocol import Exported
from edgepack.methods.protocol import Context
from edgepack.methods.quantize import Quantize
from edgepack.network.fold import program_of
from edgepack.network.grid import trace
from edgepack.network.grid.tables import table_quantizers
from edgepack.network.model import Model, output_steps, predict
from edgepack.runtimes import RUNTIMES
from edgepack.stages.precision import code_types
from edgepack.targets import load_target

WORDS, DIMENSIONS, LENGTH = 200, 32, 6
TOKENS = np.random.default_rng(0).integers(0, WORDS, (16, LENGTH))
RUNTIME_OF = {"litert": "litert", "openvino": "openvino", "onnx": "onnxruntime"}
OPTIONS = {
    "litert": {"int4_operators": ["EMBEDDING_LOOKUP"]},
    "openvino": {"int4_weights": True},
    "onnx": {"int4_weights": True},
}


class Text(nn.Module):
    """embedding → linear of each word → mean"""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.classes = nn.Embedding(WORDS, DIMENSIONS), nn.Linear(DIMENSIONS, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classes(torch.relu(self.table(tokens)).mean(1))


class Averaged(Text):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        words = self.table(tokens).permute(0, 2, 1).unsqueeze(2)
        return self.classes(nn.functional.avg_pool2d(words, (1, LENGTH)).flatten(1))


@functools.cache
def quantized(kind: type[Text], bits: int) -> Model:
    network = kind().eval()
    model = Model(
        network=network, build=lambda: copy.deepcopy(network), inputs=(TensorSpec(name="t", shape=(1, LENGTH), dtype="int64"),),
        outputs=(TensorSpec(name="y", shape=(1, 3)),),
    )  # fmt: skip
    samples = Samples(inputs={"t": TOKENS})
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            original=model, train=samples, calibration=samples, constraints=load_target("arm64").quantization,
            workspace=Path(folder), key="text", seed=0, progress=Silent(),
        )  # fmt: skip
        return Quantize(mode="ptq", tables_bits=bits).apply(model, context)  # type: ignore[arg-type]


def exported(name: str, bits: int, folder: Path) -> Exported:
    exporter = EXPORTERS.load(name).model_validate(OPTIONS[name])
    return exporter.export(quantized(Text, bits), Samples(inputs={"t": TOKENS[:1]}), folder, progress=Silent())


@pytest.mark.parametrize("name", ["litert", "openvino", "onnx"])
def test_a_table_of_four_bits_takes_half_a_byte_a_weight_and_gives_the_trained_outputs(
    name: str, tmp_path: Path
) -> None:
    made = exported(name, 4, tmp_path)

    session = RUNTIMES.load(RUNTIME_OF[name]).model_validate({}).open(made.path)
    model = quantized(Text, 4)
    theirs, ours = session.run_float({"t": TOKENS})["y"], predict(model, Samples(inputs={"t": TOKENS}))["y"]
    assert np.abs(theirs - ours).max() <= 1.001 * output_steps(model)["y"]  # type: ignore[operator]
    content = b"".join(file.read_bytes() for file in (made.path, *made.companions))
    codes = program_of(model).float_network.get_parameter("table.weight").detach().numpy()
    (quantizer,) = table_quantizers(model.network, trace(model.build().eval(), model.example())).values()
    steps = np.rint(codes / float(quantizer.get_parameters_for_torch_fq()[2])).astype(np.int64).reshape(-1, 2) & 15  # type: ignore[operator]
    assert (steps[:, 0] | steps[:, 1] << 4).astype(np.uint8).tobytes() in content
    assert code_types((made.path, *made.companions)) == {"int4", "int8"}


def test_the_table_of_an_onnx_file_is_stored_in_int8(tmp_path: Path) -> None:
    made = exported("onnx", 8, tmp_path)

    assert made.path.stat().st_size < WORDS * DIMENSIONS + 4000


def test_a_target_that_reads_no_four_bits_gets_the_same_codes_in_a_byte_each_and_a_note(tmp_path: Path) -> None:
    made = (
        EXPORTERS.load("litert")
        .model_validate({})
        .export(quantized(Text, 4), Samples(inputs={"t": TOKENS[:1]}), tmp_path, progress=Silent())
    )

    assert [note for note in made.notes if "EMBEDDING_LOOKUP is not in this target's int4_operators" in note]
    assert made.path.stat().st_size > WORDS * DIMENSIONS


def test_an_old_litert_runtime_is_told_that_it_can_not_read_four_bits(tmp_path: Path) -> None:
    exporter = EXPORTERS.load("litert").model_validate({**OPTIONS["litert"], "oldest_runtime": "tflite-runtime 2.14"})

    with pytest.raises(UnsupportedError, match="EMBEDDING_LOOKUP"):
        exporter.export(quantized(Text, 4), Samples(inputs={"t": TOKENS[:1]}), tmp_path, progress=Silent())


def test_a_table_of_four_bits_has_sixteen_values() -> None:
    values = program_of(quantized(Text, 4)).float_network.get_parameter("table.weight").detach()

    assert 12 <= len(values.unique()) <= 16
    assert (values == 0).any()


def test_a_table_whose_rows_are_averaged_on_the_same_grid_keeps_its_bits() -> None:
    with pytest.raises(UnsupportedError, match=r"shares its grid with .*avg_pool2d.* leave tables_bits = 4 out"):
        quantized(Averaged, 4)
