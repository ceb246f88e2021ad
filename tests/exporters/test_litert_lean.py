"""A quantized LiteRT file calls its tensors as the source model does, stores equal vectors once, and computes what it did."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from edgepack.core.types import Silent
from edgepack.explain.from_tflite import read
from edgepack.exporters.litert import LiteRTExporter
from edgepack.exporters.litert_graph import read_graph
from edgepack.exporters.litert_lean import lean
from edgepack.exporters.protocol import Exported, ExportOptions
from edgepack.runtimes.litert import LiteRT
from exporters.cases import Case, quantized


@functools.cache
def exported(name: str, folder: Path) -> tuple[Case, Exported]:
    case = quantized(name)
    exporter = LiteRTExporter(options=ExportOptions())
    return case, exporter.export(case.model, case.samples.take(slice(0, 1)), folder, progress=Silent())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Exported]:
    return exported("hard swish and squeeze-excite", tmp_path_factory.getbasetemp())


def test_weights_and_layers_have_the_source_models_names(made: tuple[Case, Exported]) -> None:
    case, file = made
    names = set(read(file.path.read_bytes()).shapes)

    weights = {
        f"{name}.weight" for name, module in case.model.network.named_modules() if hasattr(module, "kernel_size")
    }
    assert weights and weights <= names
    assert {"input", "output"} <= names
    assert not [name for name in names if "torch." in name]


def test_every_name_is_there_once_and_leads_to_the_networks_operations(made: tuple[Case, Exported]) -> None:
    _, file = made
    _, graph = read_graph(file.path.read_bytes())

    assert len(set(graph.names)) == len(graph.names)
    assert set(file.tensors) <= set(graph.names)
    assert "input" in file.tensors and file.tensors["output"][0] in file.grid.activations  # type: ignore[union-attr]


def test_equal_vectors_are_stored_once_and_nothing_else_changes(made: tuple[Case, Exported]) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    _, file = made
    content = file.path.read_bytes()
    model, _ = read_graph(content)
    apart = bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    again, renamed = lean(apart, {})

    assert len(content) < len(apart)
    assert len(again) <= len(content)
    assert renamed["input"] == "input"


def test_the_lean_file_computes_the_same_codes(made: tuple[Case, Exported], tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    case, file = made
    apart = tmp_path / "apart.tflite"
    model, _ = read_graph(file.path.read_bytes())
    apart.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))

    ours, theirs = (LiteRT().open(path).run_float(dict(case.samples.inputs))["output"] for path in (file.path, apart))

    assert np.array_equal(ours, theirs)


def test_the_same_input_gives_the_same_bytes(made: tuple[Case, Exported], tmp_path: Path) -> None:
    case, file = made

    again = LiteRTExporter(options=ExportOptions()).export(
        case.model, case.samples.take(slice(0, 1)), tmp_path, progress=Silent()
    )

    assert again.path.read_bytes() == file.path.read_bytes()
