"""The trained grid in an openvino.Model: FakeQuantize nodes by operation, int8 constants with their scales, codes at the borders."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from edgepack.core.errors import StageError
from edgepack.core.types import Array, QuantParams
from edgepack.network.program import Layer, Program

Tensors = dict[str, tuple[str, QuantParams]]  # name of an IR node → operation of the network, its grid
_LEVELS = 256
_QUANTIZER = re.compile(r"^quantize_per_tensor(?:_(\d+))?/")
_TOLERANCE = 1e-5  # relative: the converter computes the ends of a range in float32
_DECODES = {"Convert", "Subtract", "Multiply", "Reshape", "Transpose"}
_MOVES_VALUES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "StridedSlice", "Gather", "Split"}


def without_grids(network: Any) -> Any:
    """A copy that computes the same in float."""
    plain = network.clone()
    for node in plain.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(node.input_value(0))
    plain.validate_nodes_and_infer_types()
    return plain


def impose(
    network: Any,
    program: Program,
    *,
    io_dtype: Literal["int8", "float32"],
    round_before_sums: bool,
    int4_weights: bool = False,
) -> Tensors:
    """Name the grids, write their exact ends, and replace float weights by their codes. Edits `network`; answers what has a grid.

    `round_before_sums` keeps the CPU from leaving out a rounding (`_keep_rounding`), `int4_weights` stores codes of four bits two in a byte. Raises StageError where a quantizer or a layer of the program is
    not in the converted model.
    """
    if not program.quantized:
        return {}
    tensors = _impose_activations(network, program)
    _impose_weights(network, program.layers, int4_weights=int4_weights)
    _impose_tables(network, tensors, int4_weights=int4_weights)
    if round_before_sums:
        _keep_rounding(network)
    _part_linear_layers(network)
    if io_dtype == "int8":
        for parameter in network.get_parameters():
            _take_codes(network, parameter, tensors)
        for result in network.get_results():
            _give_codes(result, tensors)
    network.validate_nodes_and_infer_types()
    return tensors


def _impose_activations(network: Any, program: Program) -> Tensors:
    """Each FakeQuantize gets the name of its operation and the exact ends of its range."""
    borders = {node.get_friendly_name() for node in (*network.get_parameters(), *network.get_results())}
    missing = dict.fromkeys(program.quantizers)
    tensors: Tensors = {}
    for node in network.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        numbered = _QUANTIZER.match(node.get_friendly_name())
        if numbered is None:
            raise StageError(f"OpenVINO's converter made a FakeQuantize of its own: {node.get_friendly_name()}")
        operation = program.quantizers[int(numbered[1] or 0)]
        _write_range(node, program.activations[operation], operation)
        name = f"{operation}/grid" if operation in borders else operation
        node.set_friendly_name(name)
        tensors[name] = (operation, program.activations[operation])
        missing.pop(operation, None)
    if missing:
        raise StageError(f"OpenVINO's converter dropped the grid of {', '.join(missing)}")
    return tensors


def _keep_rounding(network: Any) -> None:
    """Put a PRelu of slope 1, which changes nothing, before the grid of a convolution whose output is only added to something.

    The CPU plugin computes convolution, grid, sum and the sum's grid as one kernel, and when the first grid comes right after the convolution it
    doesn't round it ("drop rounding one special residual pattern", intel_cpu/src/nodes/conv.cpp, 2026.4): one code in six of the sum then
    differs by 1 from what was trained. Something in between keeps the rounding, for 1 % of EfficientNet-Lite0's time.
    """
    from openvino import opset13 as ops

    for node in network.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        users = [target.get_node().get_type_name() for target in node.output(0).get_target_inputs()]
        made_by = node.input_value(0).get_node()
        if made_by.get_type_name() == "Add":  # the bias
            made_by = made_by.input_value(0).get_node()
        if users == ["Add"] and made_by.get_type_name() in ("Convolution", "GroupConvolution"):
            same = ops.prelu(node.input_value(0), ops.constant(np.array([1.0], np.float32)))
            node.input(0).replace_source_output(same.output(0))


def _part_linear_layers(network: Any) -> None:
    """Put a PRelu of slope 1, which changes nothing, before the grid between two linear layers.

    The CPU plugin makes one kernel of such a sequence (TokenizeMLPSeqSnippets, 2026.4), and its numbers are wrong: off by whole ranges after a ReLU, and by
    10⁶ without an activation between. With something before the grid it computes layer by layer.
    """
    from openvino import opset13 as ops

    for node in network.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        made_by = node.input_value(0).get_node()
        while made_by.get_type_name() != "MatMul" and len(_computed_inputs(made_by)) == 1:
            made_by = _computed_inputs(made_by)[0]
        read_by = [target.get_node() for target in node.output(0).get_target_inputs()]
        if _is_linear(made_by) and any(_is_linear(reader) for reader in read_by):
            same = ops.prelu(node.input_value(0), ops.constant(np.array([1.0], np.float32)))
            node.input(0).replace_source_output(same.output(0))


def _is_linear(node: Any) -> bool:
    """Whether a node is a linear layer on (samples, features): a product with constants."""
    return (
        node.get_type_name() == "MatMul"
        and len(_computed_inputs(node)) == 1
        and node.input_value(0).get_partial_shape().rank.get_length() == 2
    )


def _computed_inputs(node: Any) -> list[Any]:
    """The nodes that a node reads, without constants and what only decodes them."""
    return [made_by for value in node.input_values() if not _is_constant(made_by := value.get_node())]


def _is_constant(node: Any) -> bool:
    kind, inputs = node.get_type_name(), node.input_values()
    return kind == "Constant" or (kind in _DECODES and all(_is_constant(value.get_node()) for value in inputs))


def _write_range(node: Any, params: QuantParams, operation: str) -> None:
    """Two constants for the four ends: a FakeQuantize gives back the range that it takes."""
    from openvino import opset13 as ops

    ends = _ends(params)
    written = np.concatenate([np.ravel(node.input_value(port).get_node().data) for port in (1, 2, 3, 4)])
    if written.size != 4 or not np.allclose(written, (*ends, *ends), rtol=_TOLERANCE, atol=_TOLERANCE * params.step):
        raise StageError(f"{operation}: OpenVINO's converter changed its range from {ends} to {written.tolist()}")
    constants = [ops.constant(np.float32(end)) for end in ends]
    for port in (1, 2, 3, 4):
        node.input(port).replace_source_output(constants[(port - 1) % 2].output(0))


def _ends(params: QuantParams) -> tuple[float, float]:
    """The real values of codes -128 and 127."""
    scale, zero_point = params.scale[0], params.zero_point[0]
    return scale * (-128 - zero_point), scale * (127 - zero_point)


def _impose_weights(network: Any, layers: tuple[Layer, ...], *, int4_weights: bool) -> None:
    """Weights become int8 constants → Convert → Multiply by the scales. A layer is found by its float values, which no reshape changes.

    Those of four bits become i4 constants → Convert to i8 → …: the CPU plugin (2026.4) folds that when it compiles, and takes its int8 kernels. Without
    the detour it computes such layers in float, four times slower.
    """
    from openvino import Type
    from openvino import opset13 as ops

    by_values = {layer.weight.tobytes(): layer for layer in layers if layer.codes is not None}
    missing = dict.fromkeys(by_values)
    for node in network.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        values = np.ascontiguousarray(node.data).tobytes()
        layer = by_values.get(values)
        if layer is None or layer.codes is None:
            continue
        codes = np.ascontiguousarray(layer.codes.reshape(node.data.shape))
        is_narrow = int4_weights and layer.params is not None and layer.params.dtype == "int4"
        stored = ops.convert(ops.constant(codes, dtype=Type.i4), np.int8) if is_narrow else ops.constant(codes)
        scale = ops.constant(_scales(layer, node.data.shape))
        weight = ops.multiply(ops.convert(stored, np.float32), scale)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(weight.output(0))
        missing.pop(values, None)
    if missing:
        names = ", ".join(by_values[values].name for values in missing)
        raise StageError(f"OpenVINO's converter changed the weights of {names}, so the trained codes can't be written")


def _scales(layer: Layer, shape: tuple[int, ...]) -> Array:
    """The scales as they multiply a weight of some shape, with 1 wherever they are the same."""
    assert layer.params is not None
    scale = np.array(layer.params.scale, np.float32)
    if scale.size > 1:
        scale = scale.reshape([-1 if d == (layer.params.axis or 0) else 1 for d in range(layer.weight.ndim)])
    full: Array = np.broadcast_to(scale, layer.weight.shape).reshape(shape)
    for axis in range(full.ndim):
        first = full.take([0], axis=axis)
        full = first if (full == first).all() else full
    return np.ascontiguousarray(full)


def _impose_tables(network: Any, tensors: Tensors, *, int4_weights: bool) -> None:
    """Embedding tables become int8 on the grid of what is looked up: a row is only copied, so rounding the table gives the same codes.

    With `int4_weights`, a table whose codes fit four bits becomes i4: the CPU plugin (2026.4) looks rows up in such a one as it is.
    """
    from openvino import Type
    from openvino import opset13 as ops

    for node in network.get_ordered_ops():
        if node.get_type_name() != "Constant" or not node.get_element_type().is_real():
            continue
        lookups = [target for target in node.output(0).get_target_inputs() if target.get_index() == 0]
        users = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
        params = _grid_below(lookups, tensors)
        if users == {"Gather"} and params is not None:
            codes = np.rint(node.data / np.float64(params.scale[0])) + params.zero_point[0]
            codes = np.clip(codes, -128, 127).astype(np.int8)
            narrow = int4_weights and params.zero_point[0] == 0 and codes.min() >= -8 and codes.max() <= 7
            table = ops.constant(codes, dtype=Type.i4) if narrow else ops.constant(codes)
            real = _real(table, params)
            for target in lookups:
                target.replace_source_output(real.output(0))


def _real(codes: Any, params: QuantParams) -> Any:
    """Convert → Subtract → Multiply: the real values of some codes."""
    from openvino import opset13 as ops

    real = ops.convert(codes, np.float32)
    if params.zero_point[0] != 0:
        real = ops.subtract(real, ops.constant(np.float32(params.zero_point[0])))
    return ops.multiply(real, ops.constant(np.float32(params.scale[0])))


def _take_codes(network: Any, parameter: Any, tensors: Tensors) -> None:
    """Turn a float input that has a grid into one of int8 codes: Parameter → Convert → Subtract → Multiply."""
    from openvino import Type

    users = list(parameter.output(0).get_target_inputs())
    params = _grid_below(users, tensors) if parameter.get_element_type().is_real() else None
    if params is None:  # indices have none; a table that they look up has
        return
    parameter.set_element_type(Type.i8)
    parameter.validate_and_infer_types()
    real = _real(parameter, params)
    for user in users:
        user.replace_source_output(real.output(0))


def _grid_below(users: list[Any], tensors: Tensors) -> QuantParams | None:
    """The one grid that all users of a tensor read it on, where there is one."""
    found: set[QuantParams | None] = set()
    for user in users:
        node = user.get_node()
        if node.get_type_name() in _MOVES_VALUES:
            found.add(_grid_below([t for output in node.outputs() for t in output.get_target_inputs()], tensors))
        else:
            name = node.get_friendly_name()
            found.add(tensors[name][1] if node.get_type_name() == "FakeQuantize" and name in tensors else None)
    return found.pop() if len(found) == 1 else None


def _give_codes(result: Any, tensors: Tensors) -> None:
    """Turn a float output that has a grid into one of int8 codes: FakeQuantize from real values to codes → Convert → Result."""
    from openvino import opset13 as ops

    source = result.input_value(0)
    node = source.get_node()
    while node.get_type_name() in _MOVES_VALUES:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "FakeQuantize" or node.get_friendly_name() not in tensors:
        return
    ends = [*_ends(tensors[node.get_friendly_name()][1]), -128.0, 127.0]
    codes = ops.fake_quantize(source, *(ops.constant(np.float32(end)) for end in ends), levels=_LEVELS)
    given = ops.convert(codes, np.int8)
    given.set_friendly_name(f"{result.get_friendly_name()}/codes")
    result.input(0).replace_source_output(given.output(0))
