"""An OpenVINO IR as a session tells it: grids of its borders, operators, which tensors exist, and what really ran.

An int8 IR is a float graph whose grids are FakeQuantize nodes: the plugin computes a node, what is fused into it and the FakeQuantize behind
them as one integer kernel. So an operator here writes the FakeQuantize's tensor, and the FakeQuantize is no operator of its own; one
that nothing is fused into (behind a float input, between two grids) really runs, and is called QUANTIZE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepack.core.types import QuantParams
from edgepack.runtimes.protocol import Operator

_CODES = {"i8": "int8", "u8": "uint8"}
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
_FLOATS = {"f16", "bf16", "f32", "f64"}
_MOVES_VALUES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze"}
_NAMED = 8
_MARGIN = 0.01  # of a code: the ends of a FakeQuantize are float32


class Graph:
    """The nodes of a model that depend on its inputs, in the order of execution.

    `model` is an openvino.Model, which only `keep_tensors` changes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.live: list[Any] = []
        self._position: dict[str, int] = {}
        for node in model.get_ordered_ops():
            is_fed = any(source.get_name() in self._position for source in _sources(node))
            if node.get_type_name() == "Parameter" or is_fed:
                self._position[node.get_name()] = len(self.live)
                self.live.append(node)
        self._border = {node.get_name() for node in self.live if _changes_nothing(node)}
        self.input_grids = [self._input_grid(parameter) for parameter in model.get_parameters()]
        self.output_grids = [self._output_grid(result) for result in model.get_results()]

    def operators(self) -> tuple[Operator, ...]:
        """See Session.operators."""
        return tuple(
            Operator(
                name="QUANTIZE" if node.get_type_name() == "FakeQuantize" else str(node.get_type_name()),
                inputs=tuple(
                    self._written(value)
                    for value in node.input_values()
                    if value.get_node().get_name() in self._position
                ),
                outputs=tuple(self._written(output) for output in node.outputs()),
            )
            for node in self._operators()
        )

    def kept(self) -> list[Any]:
        """The float outputs of nodes that exist in memory: grids, and what no FakeQuantize takes into its kernel."""
        outputs = [output for node in self._operators() for output in node.outputs()]
        outputs += [node.output(0) for node in self.live if self._is_fused_grid(node)]
        found = [output for output in outputs if _type(output) in _FLOATS and not self._is_inside(output.get_node())]
        return sorted(found, key=lambda output: self._position[output.get_node().get_name()])

    def _operators(self) -> Iterator[Any]:
        for node in self.live:
            kind = node.get_type_name()
            is_border = kind in ("Parameter", "Result") or node.get_name() in self._border
            if not is_border and not self._is_fused_grid(node):
                yield node

    def _is_fused_grid(self, node: Any) -> bool:
        """Whether a FakeQuantize only says the grid of what the node before it writes."""
        if node.get_type_name() != "FakeQuantize" or node.get_name() in self._border:
            return False
        source = node.input_value(0)
        made_by = source.get_node()
        if made_by.get_name() in self._border and not _changes_nothing(made_by):
            return True  # codes that came in: they are on this grid already
        alone = len(source.get_target_inputs()) == 1
        while made_by.get_type_name() in _MOVES_VALUES or _changes_nothing(made_by):
            made_by = made_by.input_value(0).get_node()
        return alone and made_by.get_type_name() not in ("Parameter", "FakeQuantize")

    def _is_inside(self, node: Any) -> bool:
        """Whether a node's output is computed in the middle of a kernel that ends in a FakeQuantize."""
        if node.get_type_name() == "FakeQuantize":
            return False
        users = [target.get_node() for target in node.output(0).get_target_inputs()]
        if len(users) != 1 or users[0].get_type_name() == "Result":
            return False
        return users[0].get_type_name() == "FakeQuantize" or self._is_inside(users[0])

    def _written(self, value: Any) -> str:
        """The name of the tensor that stands for a value: behind the FakeQuantize that is fused into its node."""
        users = [target.get_node() for target in value.get_target_inputs()]
        if len(users) == 1 and _changes_nothing(users[0]):
            return self._written(users[0].output(0))
        if len(users) == 1 and self._is_fused_grid(users[0]):
            return name_of(users[0].output(0))
        return name_of(value)

    def _input_grid(self, parameter: Any) -> QuantParams | None:
        """Of codes that come in: Parameter → Convert → Subtract (zero point) → Multiply (scale)."""
        dtype = _CODES.get(_type(parameter.output(0)))
        convert = _only_user(parameter)
        if dtype is None or convert is None or convert.get_type_name() != "Convert":
            return None
        nodes, zero_point = [convert], 0.0
        if (subtract := _only_user(convert)) is not None and subtract.get_type_name() == "Subtract":
            nodes.append(subtract)
            zero_point = _constant(subtract, 1)
        multiply = _only_user(nodes[-1])
        if multiply is None or multiply.get_type_name() != "Multiply":
            return None
        scale = _constant(multiply, 1)
        if not (scale > 0 and zero_point == np.rint(zero_point)):  # one for each channel, or no grid at all
            return None
        self._border |= {node.get_name() for node in (*nodes, multiply)}
        return QuantParams(scale=(scale,), zero_point=(int(zero_point),), dtype=dtype)

    def _output_grid(self, result: Any) -> QuantParams | None:
        """Of codes that go out: FakeQuantize from real values to all codes → Convert → Result."""
        convert = result.input_value(0).get_node()
        dtype = _CODES.get(_type(result.input_value(0)))
        if dtype is None or convert.get_type_name() != "Convert":
            return None
        grid = convert.input_value(0).get_node()
        if grid.get_type_name() != "FakeQuantize" or (_constant(grid, 3), _constant(grid, 4)) != _LIMITS[dtype]:
            return None
        low, high = _constant(grid, 1), _constant(grid, 2)
        scale = (high - low) / 255
        zero_point = float(np.divide(-low, scale)) + _LIMITS[dtype][0]
        if not abs(zero_point - np.rint(zero_point)) <= _MARGIN:
            return None
        self._border |= {convert.get_name(), grid.get_name()}
        return QuantParams(scale=(scale,), zero_point=(int(np.rint(zero_point)),), dtype=dtype)

    def keep_tensors(self) -> dict[str, int]:
        """Make every tensor of `kept` an output of the model as well. Answers each one's position among the outputs, by name."""
        positions: dict[str, int] = {}
        results = [result.get_name() for result in self.model.get_results()]
        added: list[Any] = []
        for value in self.kept():
            users = {target.get_node().get_name() for target in value.get_target_inputs()}
            shared = next((position for position, name in enumerate(results) if name in users), None)
            positions[name_of(value)] = len(results) + len(added) if shared is None else shared
            if shared is None:
                added.append(value)
        if added:
            self.model.add_outputs(added)
        return positions


def name_of(value: Any) -> str:
    """A tensor's name: that of the node that writes it, with the number of the output where there are several."""
    node = value.get_node()
    name = str(node.get_friendly_name())
    return name if node.get_output_size() == 1 else f"{name}:{value.get_index()}"


def execution_types(compiled: Any) -> tuple[dict[str, int], tuple[str, ...]]:
    """Executed nodes by the type they compute in, and notes on what that hides.

    `compiled` is an openvino.CompiledModel, whose runtime model has each executed node with its kernel. Inputs, outputs, constants and what is
    computed from constants alone are left out.
    """
    counts: Counter[str] = Counter()
    in_float: list[str] = []
    untold: list[str] = []
    live: set[str] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, precision = info["layerType"].astype(str), _arithmetic(info)
        if kind != "Input" and not any(source.get_name() in live for source in _sources(node)):
            continue
        live.add(node.get_name())
        if kind in ("Input", "Output"):
            continue
        counts[precision] += 1
        layers = [name for name in info["originalLayersNames"].astype(str).split(",") if name]
        if kind == "Subgraph" and any("MatMul" in name for name in layers):
            untold.append(
                f"'{layers[-1]}' is a whole chain of layers in one kernel, whose inner types OpenVINO doesn't tell"
            )
        elif precision in _FLOATS:
            in_float.append(f"{kind} '{layers[-1]}'" if layers else kind)
    if in_float and set(counts) & set(_CODES):
        more = f" and {len(in_float) - _NAMED} more" if len(in_float) > _NAMED else ""
        untold.insert(0, f"computed in float: {', '.join(in_float[:_NAMED])}{more}")
    return dict(sorted(counts.items())), tuple(untold)


def _arithmetic(info: Any) -> str:
    """What an executed node computes in: the end of its kernel's name ('brgconv_avx512_I8').

    `runtimePrecision` alone is that of its first input: 'i8' for a convolution in float whose input was int8 before.
    """
    precision = str(info["runtimePrecision"].astype(str))
    kernel = str(info["primitiveType"].astype(str)).rpartition("_")[2].lower()
    if kernel == "i8":
        return precision if precision in _CODES else kernel
    return kernel if kernel in _FLOATS else precision


def _changes_nothing(node: Any) -> bool:
    """The PRelu of slope 1 with which the exporter keeps a rounding."""
    return node.get_type_name() == "PRelu" and _constant(node, 1) == 1.0


def _sources(node: Any) -> list[Any]:
    return [value.get_node() for value in node.input_values()]


def _only_user(node: Any) -> Any | None:
    users = node.output(0).get_target_inputs()
    return next(iter(users)).get_node() if len(users) == 1 else None


def _type(value: Any) -> str:
    return str(value.get_element_type().get_type_name())


def _constant(node: Any, port: int) -> float:
    """The only value of a constant input; NaN for anything else."""
    source = node.input_value(port).get_node()
    if source.get_type_name() != "Constant" or source.data.size != 1:
        return float("nan")
    return float(source.data.item())
