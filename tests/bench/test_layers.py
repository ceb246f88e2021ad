from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.bench.layers import layers_of
from edgepack.core.errors import BundleError

TENSORS = {"relu/0": "stem/relu/0", "linear/0": "head/linear/0"}


def test_operators_of_an_onnx_file_belong_to_the_first_tensor_that_they_lead_to(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], name="node_conv"),
        helper.make_node("Relu", ["conv"], ["act"], name="node_relu"),
        helper.make_node("QuantizeLinear", ["act", "s", "z"], ["relu/0/codes"], name="quantize"),
        helper.make_node("DequantizeLinear", ["relu/0/codes", "s", "z"], ["relu/0"], name="dequantize"),
        helper.make_node("Gemm", ["relu/0", "w"], ["linear/0"], name="node_gemm"),
        helper.make_node("Identity", ["linear/0"], ["scores"], name="last"),
    ]
    image, scores = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "scores"))
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [image], [scores])), str(tmp_path / "m.onnx"))

    found = layers_of(tmp_path / "m.onnx", "onnx", TENSORS)

    assert {name: found[name] for name in ("node_conv", "node_relu", "quantize", "node_gemm")} == {
        "node_conv": "stem/relu/0",
        "node_relu": "stem/relu/0",
        "quantize": "stem/relu/0",
        "node_gemm": "head/linear/0",
    }
    assert "last" not in found
    assert found["relu/0"] == "stem/relu/0"


IR = """<net version="11"><layers>
<layer id="0" name="image" type="Parameter"/><layer id="1" name="Convolution_1" type="Convolution"/>
<layer id="2" name="Clamp_1" type="Clamp"/><layer id="3" name="relu/0" type="FakeQuantize"/>
<layer id="4" name="MatMul_1" type="MatMul"/><layer id="5" name="out" type="Result"/></layers>
<edges><edge from-layer="0" to-layer="1"/><edge from-layer="1" to-layer="2"/><edge from-layer="2" to-layer="3"/>
<edge from-layer="3" to-layer="4"/><edge from-layer="4" to-layer="5"/></edges></net>"""


def test_operators_of_an_openvino_file_belong_to_the_first_tensor_that_they_lead_to(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text(IR)

    found = layers_of(tmp_path / "m.xml", "openvino", TENSORS)

    assert found["Convolution_1"] == found["Clamp_1"] == "stem/relu/0"
    assert "MatMul_1" not in found and "out" not in found


def test_a_tflite_file_names_its_operators_by_their_tensors(tmp_path: Path) -> None:
    assert layers_of(tmp_path / "not read.tflite", "tflite", TENSORS) == TENSORS


def test_a_graph_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("<net><layers>")

    with pytest.raises(BundleError, match=r"m\.xml: its graph can't be read"):
        layers_of(tmp_path / "m.xml", "openvino", TENSORS)
