"""Each ONNX operator computes what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from edgepack.core.errors import UnsupportedError
from edgepack.network.from_onnx.graph import SUPPORTED, Graph, graph_of
from edgepack.network.from_onnx.network import OPERATORS, OnnxNetwork, program_of
from edgepack.network.imported import module_of
from edgepack.network.imported.batch import Choices
from network.from_onnx.small_onnx import model, node, save

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One use of an operator on x (2, …)."""

    nodes: Sequence[onnx.NodeProto]
    shape: tuple[int, ...] = (2, 4, 6, 6)
    constants: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    low: float = -3.0
    high: float = 3.0
    outputs: tuple[str, ...] = ("y",)


def one(kind: str, inputs: str = "x", *, shape: tuple[int, ...] = (2, 4, 6, 6), constants: Mapping[str, Any] | None = None,
        opset: int = 18, low: float = -3.0, high: float = 3.0, outputs: str = "y", **attributes: Any) -> Case:  # fmt: skip
    made = node(kind, inputs, outputs, **attributes)
    return Case([made], shape, constants or {}, opset, low, high, tuple(outputs.split()))


IMAGE = (2, 4, 6, 6)
SMALL = (2, 3, 4)
KERNEL, BIAS = floats(8, 4, 3, 3), floats(8)
CASES: dict[str, Case] = {
    **{kind: one(kind) for kind in (
        "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Relu",
        "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Celu", "GlobalAveragePool",
        "GlobalMaxPool", "Softmax", "LogSoftmax", "Flatten", "Dropout",
    )},
    **{kind: one(kind, low=0.1) for kind in ("Log", "Sqrt", "Reciprocal")},
    **{kind: one(kind, "x c", constants={"c": floats(4, 1, 1)}) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum")},
    **{f"{kind} of one number": one(kind, "x c", constants={"c": np.float32(2.5)}) for kind in ("Add", "Sub", "Mul", "Div", "Pow")},
    "Sub from one number": one("Sub", "c x", constants={"c": np.float32(2.5)}),
    "Div with more dimensions": one("Div", "c x", constants={"c": floats(1, 1, 1, 1, 1)}, low=0.5),
    "Pow by tensor": one("Pow", "x c", constants={"c": floats(6)}, low=0.1),
    "Clip": one("Clip", "x low high", constants={"low": np.float32(0), "high": np.float32(6)}),
    "Clip without lower bound": one("Clip", "x - high", constants={"high": np.float32(1)}),
    "Clip 6": one("Clip", opset=9, min=-1.0, max=1.0),
    "HardSigmoid of torch": one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "PRelu": one("PRelu", "x c", constants={"c": floats(4, 1, 1)}),
    "PRelu of elements": one("PRelu", "x c", constants={"c": floats(4, 6, 6)}),
    "Gelu": one("Gelu", opset=20),
    "Gelu tanh": one("Gelu", opset=20, approximate="tanh"),
    "Mod": one("Mod", "x c", constants={"c": np.float32(1.5)}, fmod=1),
    "Cast": Case([node("Cast", "x", "i", to=TensorProto.INT32), node("Cast", "i", to=TensorProto.FLOAT)]),
    "CastLike": Case([node("CastLike", "x c", "i"), node("Cast", "i", to=TensorProto.FLOAT)], constants={"c": ints(1)}),
    "comparisons": Case([
        node("Greater", "x c", "a"), node("Less", "x d", "b"), node("GreaterOrEqual", "x d", "e"), node("LessOrEqual", "x c", "f"),
        node("Equal", "x x", "g"), node("And", "a b", "h"), node("Or", "h e", "i"), node("Xor", "i f", "j"), node("Not", "j", "k"),
        node("And", "k g", "l"), node("Where", "l x c"),
    ], constants={"c": np.float32(0.2), "d": np.float32(0.8)}),
    "Softmax 9": one("Softmax", opset=11, axis=1),
    "Softmax of channels": one("Softmax", axis=1),
    **{f"{kind} by attribute": one(kind, axes=[2, 3], keepdims=0, opset=12) for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")},
    **{f"{kind} by input": one(kind, "x axes", constants={"axes": ints(-1)}) for kind in (
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare",
    )},
    "ReduceMean of all": one("ReduceMean", keepdims=0),
    "ArgMax": one("ArgMax", axis=1, keepdims=0),
    "ArgMin": one("ArgMin", axis=-1),
    "CumSum": one("CumSum", "x axis", constants={"axis": np.int64(1)}),
    "TopK": one("TopK", "x k", constants={"k": ints(3)}, outputs="y i"),
    "Conv": one("Conv", "x w b", constants={"w": KERNEL, "b": BIAS}, pads=[1, 1, 1, 1], strides=[2, 1]),
    "Conv without the same sides": one("Conv", "x w", constants={"w": KERNEL}, pads=[0, 1, 1, 2]),
    "Conv same upper": one("Conv", "x w", constants={"w": KERNEL}, auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv same lower": one("Conv", "x w", constants={"w": KERNEL}, auto_pad="SAME_LOWER", strides=[2, 2]),
    "Conv depthwise dilated": one("Conv", "x w", constants={"w": floats(8, 1, 3, 3)}, group=4, dilations=[2, 2]),
    "Conv of a signal": one("Conv", "x w b", shape=(2, 4, 9), constants={"w": floats(6, 4, 3), "b": floats(6)}, strides=[2]),
    "ConvTranspose": one("ConvTranspose", "x w b", constants={"w": floats(4, 3, 3, 3), "b": floats(3)}, strides=[2, 2], output_padding=[1, 1]),
    "ConvTranspose padded": one("ConvTranspose", "x w", constants={"w": floats(4, 2, 3, 3)}, strides=[2, 2], pads=[0, 1, 1, 1], group=2),
    "ConvTranspose same": one("ConvTranspose", "x w", constants={"w": floats(4, 3, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER"),
    "Gemm": one("Gemm", "x w b", shape=(2, 5), constants={"w": floats(3, 5), "b": floats(3)}, transB=1),
    "Gemm scaled": one("Gemm", "x w b", shape=(2, 5), constants={"w": floats(5, 3), "b": floats(1)}, alpha=0.5, beta=2.0),
    "MatMul": one("MatMul", "x w", shape=SMALL, constants={"w": floats(4, 5)}),
    "Einsum": one("Einsum", "x w", shape=SMALL, constants={"w": floats(5, 4)}, equation="btc,dc->btd"),
    "MaxPool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool same": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "MaxPool ceil": one("MaxPool", shape=(2, 4, 7, 7), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "AveragePool": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool padded": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "AveragePool counted": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "AveragePool same": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool without the same sides": one("AveragePool", kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1),
    "BatchNormalization": one("BatchNormalization", "x s b m v", constants={"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.1}),
    "InstanceNormalization": one("InstanceNormalization", "x s b", constants={"s": floats(4), "b": floats(4)}),
    "LayerNormalization": one("LayerNormalization", "x s b", constants={"s": floats(6), "b": floats(6)}, epsilon=1e-3),
    "LayerNormalization of two": one("LayerNormalization", "x s", constants={"s": floats(6, 6)}, axis=-2),
    "GroupNormalization 21": one("GroupNormalization", "x s b", constants={"s": floats(4), "b": floats(4)}, num_groups=2, opset=21),
    "LpNormalization": one("LpNormalization", axis=1),
    "LpNormalization 1": one("LpNormalization", axis=-1, p=1),
    "LRN": one("LRN", size=3, alpha=0.01),
    "Concat": one("Concat", "x c x", constants={"c": floats(2, 1, 6, 6)}, axis=1),
    "ConstantOfShape": Case([node("ConstantOfShape", "s", "c", value=onnx.numpy_helper.from_array(np.array([2.5], np.float32))), node("Add", "x c")],
                            constants={"s": ints(6, 6)}),
    "DepthToSpace": one("DepthToSpace", blocksize=2),
    "DepthToSpace CRD": one("DepthToSpace", blocksize=2, mode="CRD"),
    "SpaceToDepth": one("SpaceToDepth", blocksize=2),
    "Expand": one("Expand", "x s", shape=(2, 1, 3), constants={"s": ints(4, 1)}),
    "Gather": one("Gather", "x i", constants={"i": ints(0, -1, 2)}, axis=1),
    "Gather one": one("Gather", "x i", constants={"i": np.int64(-2)}, axis=2),
    "Gather of a table": Case([node("Cast", "x", "i", to=TensorProto.INT64), node("Gather", "t i")], (2, 5), {"t": floats(9, 4)}, low=0, high=8),
    "Gather matrix of indices": one("Gather", "x i", constants={"i": np.array([[0, 1], [2, 3]])}, axis=-1),
    "GatherElements": one("GatherElements", "x i", shape=SMALL, constants={"i": RNG.integers(0, 4, (2, 3, 2))}, axis=2),
    "Pad": one("Pad", "x p v", constants={"p": ints(0, 0, 1, 2, 0, 1, 0, 3), "v": np.float32(1.5)}),
    "Pad by axes": one("Pad", "x p - a", constants={"p": ints(1, 2), "a": ints(-1)}),
    "Pad reflect": one("Pad", "x p", constants={"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="reflect"),
    "Pad edge": one("Pad", "x p", constants={"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="edge"),
    "Pad 9": one("Pad", opset=10, pads=[0, 0, 1, 1, 0, 0, 2, 2], value=0.5),
    "Range": Case([node("Range", "a b c", "r"), node("Cast", "r", "f", to=TensorProto.FLOAT), node("Add", "x f")],
                  constants={"a": np.int64(0), "b": np.int64(12), "c": np.int64(2)}),
    "Reshape": one("Reshape", "x s", constants={"s": ints(0, 2, -1, 6)}),
    "Resize nearest": one("Resize", "x - s", constants={"s": np.array([1, 1, 2, 3], np.float32)}, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "Resize nearest of half pixels": one("Resize", "x - s", constants={"s": np.array([1, 1, 2, 2], np.float32)}, mode="nearest"),
    "Resize linear": one("Resize", "x - s", constants={"s": np.array([1, 1, 1.5, 2.5], np.float32)}, mode="linear"),
    "Resize linear to a size": one("Resize", "x - - s", constants={"s": ints(2, 4, 11, 5)}, mode="linear"),
    "Resize linear aligned": one("Resize", "x - s", constants={"s": np.array([1, 1, 2, 2], np.float32)}, mode="linear", coordinate_transformation_mode="align_corners"),
    "Resize cubic": one("Resize", "x - s", constants={"s": np.array([1, 1, 2, 2], np.float32)}, mode="cubic"),
    "Upsample": one("Upsample", "x s", opset=9, constants={"s": np.array([1, 1, 2, 2], np.float32)}, mode="nearest"),
    "Shape and its arithmetic": Case([
        node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n axis", "n1"), node("Gather", "s two", "h"),
        node("Mul", "h six", "hw"), node("Unsqueeze", "hw axis", "hw1"), node("Concat", "n1 minus hw1", "wanted", axis=0), node("Reshape", "x wanted"),
    ], constants={"zero": np.int64(0), "two": np.int64(2), "six": np.int64(6), "axis": ints(0), "minus": ints(-1)}),
    "Size": Case([node("Size", "x", "n"), node("Cast", "n", "f", to=TensorProto.FLOAT), node("Div", "x f")]),
    "Slice": one("Slice", "x b e a s", constants={"b": ints(1, -1), "e": ints(100, -100), "a": ints(1, 3), "s": ints(2, -1)}),
    "Slice 9": one("Slice", opset=9, starts=[1, 0], ends=[3, -1], axes=[1, 2]),
    "Split": one("Split", "x s", constants={"s": ints(1, 3)}, axis=1, outputs="y z"),
    "Split into equals": one("Split", shape=(2, 3, 7), axis=-1, num_outputs=3, outputs="a b c"),
    "Split 11": one("Split", opset=11, axis=1, split=[3, 1], outputs="y z"),
    "Squeeze": one("Squeeze", "x a", shape=(2, 1, 3, 1), constants={"a": ints(1)}),
    "Squeeze 11": one("Squeeze", shape=(2, 1, 3, 1), opset=11, axes=[-1]),
    "Unsqueeze": one("Unsqueeze", "x a", shape=SMALL, constants={"a": ints(0, -1)}),
    "Tile": one("Tile", "x r", shape=SMALL, constants={"r": ints(1, 2, 3)}),
    "Transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "Transpose of all": one("Transpose"),
    "Trilu": one("Trilu", "x k", constants={"k": np.int64(1)}, upper=0),
    "Swish": one("Swish", opset=24),
    "RMSNormalization": one("RMSNormalization", "x s", constants={"s": floats(6)}, opset=23),
}  # fmt: skip
# ONNX Runtime 1.31 has no kernel for these; onnx's own definition is the reference.
BY_DEFINITION = {"Swish", "RMSNormalization"}


def read(content: onnx.ModelProto, folder: Path) -> Graph:
    path = save(content, folder / "small.onnx")
    return graph_of(onnx.load(path), path)


def expected(content: onnx.ModelProto, x: Any, *, by_definition: bool) -> list[Any]:
    if by_definition:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(content).run(None, {"x": x})  # type: ignore[return-value]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    content = model(
        case.nodes, inputs={"x": case.shape}, constants=case.constants, outputs=case.outputs, opset=case.opset
    )
    x = RNG.uniform(case.low, case.high, case.shape).astype(np.float32)

    with torch.no_grad():
        ours = OnnxNetwork(read(content, tmp_path), Choices())(torch.from_numpy(x))

    wanted = expected(content, x, by_definition=name in BY_DEFINITION)
    assert len(ours) == len(wanted)
    for mine, theirs in zip(ours, wanted, strict=True):
        assert tuple(mine.shape) == theirs.shape
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_every_operator_that_a_plan_lets_through_has_a_function_and_a_case() -> None:
    tested = {one.op_type for case in CASES.values() for one in case.nodes}

    assert frozenset(OPERATORS) | {"Constant"} == SUPPORTED
    assert set(OPERATORS) - tested == set()


def test_reshapes_that_were_made_for_one_sample_take_several(tmp_path: Path) -> None:
    content = model(
        [
            node("Conv", "x w", "a"),
            node("Reshape", "a flat", "b"),
            node("MatMul", "b m", "c"),
            node("Reshape", "c heads", "d"),
            node("Transpose", "d", "e", perm=[0, 2, 1]),
            node("Expand", "token once", "t"),
            node("Concat", "t e", "y", axis=1),
        ],
        inputs={"x": (1, 3, 4, 4)},
        constants={
            "w": floats(8, 3, 3, 3), "flat": ints(1, 32), "m": floats(32, 12), "heads": ints(1, 4, 3), "token": floats(1, 1, 4),
            "once": ints(1, 1, 4),
        },
    )  # fmt: skip
    graph = read(content, tmp_path)

    network = module_of(program_of(graph, [(3, 4, 4)], where="small.onnx"))

    x = floats(3, 3, 4, 4)
    with torch.no_grad():
        ours = network(torch.from_numpy(x)).numpy()
    for index in range(3):
        (theirs,) = expected(content, x[index : index + 1], by_definition=False)
        np.testing.assert_allclose(ours[index : index + 1], theirs, rtol=1e-4, atol=1e-5)


def test_layers_are_named_after_their_nodes_where_the_weights_names_say_nothing(tmp_path: Path) -> None:
    conv = node("Conv", "x onnx::Conv_12 onnx::Conv_13", "a")
    conv.name = "/layer1/layer1.0/conv1/Conv"
    content = model(
        [conv, node("Flatten", "a", "b"), node("Gemm", "b fc.weight fc.bias", transB=1)],
        inputs={"x": ("N", 3, 4, 4)},
        constants={
            "onnx::Conv_12": floats(2, 3, 3, 3),
            "onnx::Conv_13": floats(2),
            "fc.weight": floats(5, 8),
            "fc.bias": floats(5),
        },
    )

    network = module_of(program_of(read(content, tmp_path), [(3, 4, 4)], where="small.onnx"))

    assert [name for name, _ in network.named_parameters()] == [
        "layer1_0_conv1.weight", "layer1_0_conv1.bias", "fc.weight", "fc.bias",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "constants", "words"),
    [
        (node("MaxPool", "x", "y i", kernel_shape=[2, 2]), {}, "MaxPool 'maxpool_y': its indices are used"),
        (node("Reshape", "x c"), {}, "Reshape 'reshape_y': its shape depends on the inputs' values"),
        (node("Resize", "x - s", mode="nearest"), {"s": np.array([1, 1, 1.3, 1.3], np.float32)}, "nearest with half_pixel"),
        (node("Resize", "x - s", mode="linear", antialias=1), {"s": np.array([1, 1, 2, 2], np.float32)}, "antialias"),
        (node("BatchNormalization", "x s s s s", "y m v", training_mode=1), {"s": np.ones(4, np.float32)}, "training mode"),
        (node("CumSum", "x a", reverse=1), {"a": np.int64(1)}, "exclusive or reverse"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else None,
)  # fmt: skip
def test_a_use_of_an_operator_without_a_counterpart_is_refused_with_its_node(
    made: onnx.NodeProto, constants: dict[str, Any], words: str, tmp_path: Path
) -> None:
    before = [node("ReduceMax", "x", "peak", keepdims=0), node("Cast", "peak", "c", to=TensorProto.INT64)]
    outputs = tuple(name for name in made.output if made.op_type != "BatchNormalization" or name == "y")
    content = model([*before, made], inputs={"x": IMAGE}, constants=constants, outputs=outputs)
    graph = read(content, tmp_path)

    with pytest.raises(UnsupportedError, match=words):
        OnnxNetwork(graph, Choices())(torch.zeros(IMAGE))
