from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.layer_names import with_source_layers
from edgepack.records import LayerTime

TENSORS: dict[str, Any] = {"inputs": {"operation": "inputs"}, "block/relu/0": {"operation": "block/relu/0"}}


def timed(*names: str) -> list[LayerTime]:
    return [LayerTime(name=name, kind="Conv", mean_ms=1.0, calls=1) for name in names]


def layers(profile: list[LayerTime], model: Path) -> list[str | None]:
    return [one.source_layer for one in with_source_layers(profile, model, TENSORS)]


def test_a_tensor_of_a_tflite_file_is_its_operation(tmp_path: Path) -> None:
    assert layers(timed("block/relu/0", "other"), tmp_path / "m.tflite") == ["block/relu/0", None]


def test_a_node_of_an_onnx_file_belongs_to_the_rounded_tensor_that_comes_out_of_it(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["inputs", "weight"], ["conv"], name="node_conv"),
        helper.make_node("Relu", ["conv"], ["relu"], name="node_relu"),
        helper.make_node("QuantizeLinear", ["relu", "scale", "zero"], ["codes"], name="q"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["block/relu/0"], name="dq"),
        helper.make_node("Softmax", ["block/relu/0"], ["y"], name="soft"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("inputs", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])]
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")

    found = layers(
        timed("node_conv", "node_conv_token_7", "node_relu_quant", "soft", "made_by_the_runtime"), tmp_path / "m.onnx"
    )

    assert found == ["block/relu/0", "block/relu/0", "block/relu/0", None, None]


def test_a_layer_of_an_openvino_ir_belongs_to_the_rounded_tensor_that_comes_out_of_it(tmp_path: Path) -> None:
    names = ["inputs", "convolution", "add", "clamp", "block/relu/0", "result"]
    rows = "".join(f'<layer id="{number}" name="{name}" type="X"/>' for number, name in enumerate(names))
    edges = "".join(
        f'<edge from-layer="{n}" from-port="0" to-layer="{n + 1}" to-port="0"/>' for n in range(len(names) - 1)
    )
    (tmp_path / "m.xml").write_text(f"<net><layers>{rows}</layers><edges>{edges}</edges></net>")

    assert layers(timed("convolution", "clamp", "result"), tmp_path / "m.xml") == ["block/relu/0", "block/relu/0", None]


def test_what_a_kernel_took_is_left_as_it_is(tmp_path: Path) -> None:
    (one,) = with_source_layers(timed("block/relu/0"), tmp_path / "m.tflite", TENSORS)

    assert (one.name, one.mean_ms, one.calls) == ("block/relu/0", 1.0, 1)
