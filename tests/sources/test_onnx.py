"""`.onnx` files: with external data, with several inputs, and what is refused before anything is built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from network.from_onnx.small_onnx import model, node, save
from onnx import TensorProto, helper
from small_project import Project

from edgepack.core.errors import SourceError, UnsupportedError
from edgepack.core.types import Silent
from edgepack.plan import make_plan
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources import open_source
from edgepack.sources.protocol import Source
from edgepack.stages.load import load
from edgepack.store.cache import StageCache
from sources.model_files import use_file


def source(path: Path, *inputs: InputSection) -> Source:
    return open_source(ModelSection(file=path.name, inputs=inputs), path.parent)


def linear(**options: Any) -> onnx.ModelProto:
    """x (N, 4) → y (N, 3)."""
    weights = {"w": np.ones((4, 3), np.float32)}
    return model([node("MatMul", "x w")], **{"inputs": {"x": ("N", 4)}, "constants": weights, **options})


def with_external_data(folder: Path, name: str = "big.bin") -> Path:
    path = folder / "model.onnx"
    content = linear(constants={"w": np.arange(12, dtype=np.float32).reshape(4, 3)})
    onnx.save_model(content, str(path), save_as_external_data=True, location=name, size_threshold=0)
    return path


def edited(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    content = onnx.load(str(path), load_external_data=False)
    change(content)
    path.write_bytes(content.SerializeToString())
    return path


def test_names_shapes_and_types_come_from_the_graph(tmp_path: Path) -> None:
    content = model(
        [node("Gather", "t ids", "a"), node("ReduceMean", "a axis", "b", keepdims=0), node("Add", "b x")],
        inputs={"ids": ("batch", 7), "x": ("batch", 5)},
        constants={"t": np.zeros((9, 5), np.float32), "axis": np.array([1])},
        dtypes={"ids": TensorProto.INT64},
    )

    ids, x = source(save(content, tmp_path / "two.onnx")).inputs()

    assert (ids.name, ids.shape, ids.dtype) == ("ids", (7,), "int64")
    assert (x.name, x.shape, x.dtype) == ("x", (5,), "float32")


def test_a_model_with_external_data_is_read_and_all_its_files_count(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    path = use_file(project, "onnx")
    content = onnx.load(str(path))
    onnx.save_model(content, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    data = path.with_name("model.onnx.data")

    plan = make_plan(project.folder)
    cache = StageCache(plan.work_folder)
    first = load(plan, cache, Silent())

    assert plan.source.files() == (path, data)
    assert load(plan, cache, Silent()).key == first.key
    weights = bytearray(data.read_bytes())
    weights[0] ^= 1
    data.write_bytes(bytes(weights))
    assert load(plan, cache, Silent()).key != first.key


# --- Bad input: each is one message at plan time --------------------------------------------------------------------


def refused(path: Path, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        source(path).files()
    assert "\n" not in str(caught.value)
    with pytest.raises(kind, match=words):
        source(path).inputs()


def test_unsupported_operators_are_all_named_with_their_nodes(tmp_path: Path) -> None:
    content = linear()
    content.graph.node.extend([node("NonZero", "y", "i"), node("Hardmax", "y", "h"), node("Hardmax", "h", "k")])

    refused(
        save(content, tmp_path / "a.onnx"),
        UnsupportedError,
        r"a\.onnx: edgepack can't read these operators: Hardmax \(hardmax_h, hardmax_k\), NonZero \(nonzero_i\);",
    )


def test_an_operator_of_another_domain_is_named_with_it(tmp_path: Path) -> None:
    content = linear()
    content.graph.node[0].domain = "com.microsoft"

    refused(save(content, tmp_path / "a.onnx"), UnsupportedError, r"com\.microsoft::MatMul \(matmul_y\)")


@pytest.mark.parametrize("opset", [8, 30])
def test_another_opset_is_refused_with_those_that_are_read(opset: int, tmp_path: Path) -> None:
    content = linear()
    content.opset_import[0].version = opset

    refused(save(content, tmp_path / "a.onnx"), UnsupportedError, rf"uses opset {opset}, and edgepack reads 9 to 24")


def test_a_graph_cycle_is_named(tmp_path: Path) -> None:
    content = linear()
    content.graph.node.extend([node("Add", "y back", "there"), node("Relu", "there", "back")])

    refused(save(content, tmp_path / "a.onnx"), SourceError, r"wait for each other, in a cycle: add_there, relu_back;")


def test_an_input_that_nothing_makes_is_named(tmp_path: Path) -> None:
    content = linear()
    del content.graph.initializer[:]

    refused(
        save(content, tmp_path / "a.onnx"), SourceError, r"node 'matmul_y' reads 'w', which nothing in the file makes"
    )


def test_a_quantized_model_is_no_float_source(tmp_path: Path) -> None:
    content = model(
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
        inputs={"x": ("N", 4)},
        constants={"s": np.float32(0.1), "z": np.int8(0)},
    )

    refused(
        save(content, tmp_path / "a.onnx"), UnsupportedError, r"is quantized already \(DequantizeLinear .*float models"
    )


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(linear(constants={"w": np.ones((4, 300), np.float32)}), tmp_path / "a.onnx")
    whole = path.read_bytes()
    for size in (len(whole) // 2, 3, 60):
        path.write_bytes(whole[:size])
        refused(path, SourceError, r"a\.onnx: (is truncated|holds no graph|node 'matmul_y' reads)")


def test_an_empty_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    (tmp_path / "b.onnx").mkdir()

    with pytest.raises(SourceError, match=r"a\.onnx is empty"):
        source(tmp_path / "a.onnx").files()
    with pytest.raises(SourceError, match=r"b\.onnx is a folder"):
        source(tmp_path / "b.onnx").files()


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    save(linear(), tmp_path / "model.onnx")

    with pytest.raises(SourceError, match=r"no file .*modle\.onnx \(did you mean 'model\.onnx'\?\)"):
        source(tmp_path / "modle.onnx").files()


def test_a_file_of_more_than_two_gigabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**31 + 5)  # sparse: it takes no space

    refused(path, SourceError, r"huge\.onnx: has 2,147,483,653 bytes.*2 GB; save it with external data")


def test_external_data_that_is_missing_short_or_elsewhere_names_tensor_and_file(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    data = tmp_path / "big.bin"
    whole = data.read_bytes()

    data.write_bytes(whole[:-8])
    refused(path, SourceError, r"values of 'w' are in the external file 'big\.bin', which has 40 bytes and needs 48")
    data.unlink()
    refused(path, SourceError, r"values of 'w' are in the external file 'big\.bin', which is missing")
    outside = tmp_path.parent / "outside.bin"
    outside.write_bytes(whole)
    for location in ("../outside.bin", str(outside)):

        def move(content: onnx.ModelProto, location: str = location) -> None:
            content.graph.initializer[0].external_data[0].value = location

        refused(edited(path, move), SourceError, r"which lies outside the model's folder")
    (tmp_path / "link.bin").symlink_to(outside)
    refused(
        edited(path, lambda content: setattr(content.graph.initializer[0].external_data[0], "value", "link.bin")),
        SourceError,
        r"'link\.bin', which lies outside",
    )


def test_open_sizes_need_a_bound(tmp_path: Path) -> None:
    content = model(
        [node("ReduceMean", "x axis", keepdims=0)],
        inputs={"x": ("N", "length", 4)},
        constants={"axis": np.array([1])},
    )
    path = save(content, tmp_path / "a.onnx")

    with pytest.raises(SourceError, match=r"input 'x' has shape \[N, length, 4\]: nothing says how large 'length' is"):
        source(path).inputs()
    assert source(path, InputSection(name="x", shape=(6, 4))).inputs()[0].shape == (6, 4)


def test_a_model_that_the_checker_refuses_is_told(tmp_path: Path) -> None:
    content = linear()
    content.graph.node[0].attribute.append(helper.make_attribute("strides", [1]))
    (tmp_path / "scratch").mkdir()

    with pytest.raises(SourceError, match=r"a\.onnx: is no valid ONNX model: .*strides"):
        source(save(content, tmp_path / "a.onnx")).load(tmp_path / "scratch")


def test_samples_that_depend_on_each_other_are_refused(tmp_path: Path) -> None:
    content = model(
        [node("ReduceMax", "x axis", "m", keepdims=1), node("Sub", "x m")],
        inputs={"x": ("N", 4)},
        constants={"axis": np.array([0])},
    )
    (tmp_path / "scratch").mkdir()

    with pytest.raises(SourceError, match=r"output 0 of a sample depends on the other samples"):
        source(save(content, tmp_path / "a.onnx")).load(tmp_path / "scratch")


def test_a_plan_loads_no_torch(tiny_project: Callable[..., Project]) -> None:
    import subprocess
    import sys

    project = tiny_project()
    use_file(project, "onnx")
    code = f"import sys; from pathlib import Path; from edgepack.plan import make_plan; p = make_plan(Path({str(project.folder)!r})); print(p.inputs[0].name, 'torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout

    assert said.split() == ["image", "False"]
