"""Layers of model files made here: which constants belong to them, and how often they multiply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.core.errors import BundleError
from edgepack.explain.graph import Graph, graph_of
from edgepack.explain.layers import GraphLayer, layers_of
from edgepack.explain.weights import Steps, change_sqnr_db, coded_bytes, read_weight, rounding_sqnr_db

RNG = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def onnx_graph(
    nodes: list[Any], constants: dict[str, Any], given: tuple[int | str, ...], wanted: tuple[int | str, ...]
) -> Graph:
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, wanted)]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, stored))
    return graph_of("m.onnx", {"m.onnx": model.SerializeToString()})


def roles(layer: GraphLayer) -> dict[str, str]:
    return {part.tensor: part.role for part in layer.parts}


def test_convolutions_of_an_onnx_file_multiply_as_often_as_their_groups_say() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["h", "v"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8),
    ]
    constants = {"w": array(8, 3, 3, 3), "b": array(8), "v": array(8, 1, 3, 3)}

    layers, rest = layers_of(onnx_graph(nodes, constants, (1, 3, 8, 8), (1, 8, 4, 4)))

    assert [one.macs for one in layers] == [8 * 3 * 9 * 16, 8 * 9 * 16]
    assert roles(layers[0]) == {"w": "weight", "b": "bias"}
    assert rest == ()


def test_a_product_of_two_computed_tensors_is_a_layer_without_weights() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["y"]),
    ]

    layers, _ = layers_of(onnx_graph(nodes, {"w": array(6, 6)}, (1, 5, 6), (1, 5, 5)))

    assert [one.macs for one in layers] == [5 * 6 * 6, 5 * 6 * 5]
    assert layers[1].parts == ()


def test_a_table_that_is_looked_up_multiplies_nothing() -> None:
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, (1, 5))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5, 4))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(array(100, 4), "table")])

    layers, _ = layers_of(graph_of("m.onnx", {"m.onnx": helper.make_model(graph).SerializeToString()}))

    assert [(one.macs, roles(one)) for one in layers] == [(0, {"table": "weight"})]


def test_a_weight_that_two_layers_share_is_counted_in_the_first() -> None:
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]

    layers, _ = layers_of(onnx_graph(nodes, {"w": array(6, 6)}, (1, 6), (1, 6)))

    assert [len(one.parts) for one in layers] == [1, 0]
    assert [one.macs for one in layers] == [36, 36]


def test_sizes_that_are_not_fixed_leave_the_multiplications_unknown_with_a_reason() -> None:
    from onnx import helper

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3])]

    (layer,), _ = layers_of(onnx_graph(nodes, {"w": array(8, 3, 3, 3)}, (1, 3, "h", "w"), (1, 8, "a", "b")))

    assert layer.macs is None
    assert layer.macs_unknown is not None and "shape" in layer.macs_unknown


def test_layers_of_an_openvino_file_have_their_scales_and_biases(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    given = ops.parameter([1, 3, 8, 8], np.float32, name="x")
    codes = ops.constant(RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), name="w")
    scaled = ops.multiply(ops.convert(codes, "f32"), ops.constant(array(4, 1, 1, 1), name="s"))
    found = ops.convolution(given, scaled, [1, 1], [1, 1], [1, 1], [1, 1])
    shifted = ops.add(found, ops.constant(array(1, 4, 1, 1), name="b"))
    ov.save_model(ov.Model([ops.result(ops.relu(shifted))], [given], "m"), tmp_path / "m.xml", compress_to_fp16=False)

    graph = graph_of("m.xml", {name: (tmp_path / name).read_bytes() for name in ("m.xml", "m.bin")})
    (layer,), _ = layers_of(graph)

    assert layer.macs == 4 * 27 * 64
    assert roles(layer) == {"w": "weight", "s": "other", "b": "bias"}


def test_layers_of_a_tflite_file_are_those_of_its_network(tiny_tflite: Path) -> None:
    graph = graph_of("m.tflite", {"m.tflite": tiny_tflite.read_bytes()})

    layers, _ = layers_of(graph)

    assert [one.macs for one in layers] == [8 * 27 * 36, 288 * 4]
    sizes = [[part.constant.found.size_bytes for part in one.parts if part.role == "weight"] for one in layers]
    assert sizes == [[4 * 8 * 27], [4 * 288 * 4]]


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.xml"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 64, b"TFL3" * 40, b"\x20\x00\x00\x00TFL3" + b"\xff" * 64, b"<net><layers>"]
)
def test_bytes_that_are_no_model_are_refused_by_the_name_of_the_file(name: str, content: bytes) -> None:
    try:
        graph = graph_of(name, {name: content})
    except BundleError as exc:
        assert name in str(exc)  # an empty ONNX model is a model
    else:
        assert layers_of(graph) == ((), ())


def test_a_format_without_a_reader_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BundleError, match="tflite"):
        graph_of("m.pt", {"m.pt": b""})


def test_zeros_are_counted_where_the_grid_has_its_zero() -> None:
    from edgepack.codec.segments.tile import Found

    codes = np.array([[3, 4, 5], [7, 7, 0]], np.uint8)
    found = Found(offset=0, size_bytes=6, kind="u8", shape=(2, 3), channel_axis=0, name="w")

    weight = read_weight(codes.tobytes(), found, Steps(scale=(0.5, 2.0), zero_point=(4, 7)))

    assert weight.is_zero.tolist() == [[False, True, False], [True, True, False]]
    assert weight.values is not None
    assert weight.values.tolist() == [[-0.5, 0.0, 0.5], [0.0, 0.0, -14.0]]


def test_nibbles_are_read_as_signed_numbers() -> None:
    from edgepack.codec.segments.tile import Found

    found = Found(offset=1, size_bytes=2, kind="i4", shape=(3,), channel_axis=None, name="w")

    weight = read_weight(bytes([0, 0x8F, 0x07]), found, None)

    assert weight.codes.tolist() == [-1.0, -8.0, 7.0]
    assert weight.values is None


def test_the_noise_of_rounding_is_what_rounding_does() -> None:
    from edgepack.codec.segments.tile import Found

    original = RNG.normal(size=20_000).astype(np.float32)
    codes = np.round(original / 0.05).clip(-127, 127).astype(np.int8)
    found = Found(offset=0, size_bytes=20_000, kind="i8", shape=(20_000,), channel_axis=None, name="w")
    plain = Found(offset=0, size_bytes=80_000, kind="f32", shape=(20_000,), channel_axis=None, name="w")
    rounded = read_weight(codes.tobytes(), found, Steps(scale=(0.05,), zero_point=(0,)))
    before = read_weight(original.tobytes(), plain, None)

    expected, really = rounding_sqnr_db([rounded]), change_sqnr_db([before], [rounded])

    assert expected == pytest.approx(really, abs=0.1)
    assert change_sqnr_db([before], [before]) == 200.0
    assert rounding_sqnr_db([before]) is None


def test_weights_that_a_coder_can_predict_cost_fewer_bits() -> None:
    from edgepack.codec.segments.tile import Found

    noise = RNG.integers(-127, 128, (64, 64)).astype(np.int8)
    sparse = np.where(RNG.random((64, 64)) < 0.9, 0, noise).astype(np.int8)
    found = Found(offset=0, size_bytes=4096, kind="i8", shape=(64, 64), channel_axis=0, name="w")

    costs = [coded_bytes(one.tobytes(), found, "small") for one in (noise, sparse, np.zeros_like(noise))]

    assert costs[0] > 4000
    assert costs[1] < 1200
    assert costs[2] <= 4
