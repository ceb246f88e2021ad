"""The compressed network as exporters want it: one float program with batch norm folded, and exact integer weights beside it.

Folding y = γ·(conv(x) − μ)/σ + β into the convolution multiplies each output channel's weights by γ/σ. A symmetric per-channel
grid survives that exactly: the scale becomes scale·|γ/σ| and the codes keep their size, with the sign of γ
(Jacob et al. 2018, arXiv:1712.05877, section 3.2). So no weight is ever rounded a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array, Grid, QuantParams
from edgepack.network.grid import baked_state, read_grid, trace
from edgepack.network.model import Model, is_hooked
from edgepack.network.program import Layer, Program
from edgepack.network.tracing import graph_of, quantizer_order, with_quantizers

_ATEN = torch.ops.aten
_BATCH_NORM = _ATEN.batch_norm.default
_TRANSPOSED = {_ATEN.conv_transpose1d.default, _ATEN.conv_transpose2d.input}
_WEIGHTED = {
    _ATEN.conv1d.default,
    _ATEN.conv2d.default,
    _ATEN.conv1d.padding,
    _ATEN.conv2d.padding,
    _ATEN.linear.default,
    *_TRANSPOSED,
}


def program_of(
    model: Model, *, quantizers: bool = False, dynamic_batch: bool = False, made_up: Grid | None = None
) -> Program:
    """Bake the hooks into the weights, trace the float network and fold its batch norms.

    `dynamic_batch` leaves the first dimension of all inputs open (one size for all). `made_up` is the grid of a network without hooks, to lay its
    integer graph out before any training; its weights stay in float beside their codes. With `quantizers`, every activation that has a grid passes a quantize and a dequantize node of `torch.ops.quantized_decomposed`
    (int8 codes); weights stay float on their grid, with the codes in `layers`. Layer i's weight and bias are the module's parameters
    `_folded_<i>_weight` and `_folded_<i>_bias`. Raises UnsupportedError when torch.export can't trace the forward; the message names the place.
    """
    network = model.build().eval()
    grid = Grid(activations={}, weights={})
    if is_hooked(model.network):
        ops = trace(model.build().eval(), model.example())
        network.load_state_dict(baked_state(model.network, ops))
        grid = _narrowed(_pinned(read_grid(model.network, ops), model.pinned), model.int4)
    else:
        network.load_state_dict(model.network.state_dict())
        grid = made_up or grid
    traced = with_quantizers(network, grid) if quantizers and grid.activations else network
    module = graph_of(traced, model, dynamic_batch=dynamic_batch)
    pinned = {} if model.pinned is None else model.pinned.weights
    layers = _fold(module, grid, pinned, rounded=made_up is None)
    return Program(
        module=module,
        layers=layers,
        activations=grid.activations,
        float_network=network,
        quantized=bool(grid.activations),
        quantizers=quantizer_order(module, grid) if quantizers else (),
    )


def _pinned(grid: Grid, pinned: Grid | None) -> Grid:
    """The grid with the very numbers that are pinned: quantizers hold them to the last float32 bit but one."""
    if pinned is None:
        return grid
    return replace(
        grid, activations={name: pinned.activations.get(name, own) for name, own in grid.activations.items()}
    )


def _narrowed(grid: Grid, int4: frozenset[str]) -> Grid:
    """The grid that says which weights take four bits."""
    weights = {name: replace(one, dtype="int4") if name in int4 else one for name, one in grid.weights.items()}
    return replace(grid, weights=weights)


def _fold(module: fx.GraphModule, grid: Grid, pinned: Mapping[str, QuantParams], *, rounded: bool) -> tuple[Layer, ...]:
    """`rounded` says that the weights lie on the grid; those of a made-up grid stay as they are. `pinned` are folded grids of weights."""
    layers: list[Layer] = []
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in _WEIGHTED:
            continue
        if not isinstance(node.args[1], fx.Node) or node.args[1].op != "get_attr":
            continue  # a product of two activations: not a layer
        layer = _layer(module, node, grid)
        users = list(node.users)
        if len(users) == 1 and users[0].op == "call_function" and users[0].target is _BATCH_NORM:
            layer = _with_batch_norm(layer, users[0], transposed=node.target in _TRANSPOSED, rounded=rounded)
            users[0].replace_all_uses_with(node)
            module.graph.erase_node(users[0])
        if layer.codes is not None and layer.name in pinned:
            layer = _on_grid(layer, pinned[layer.name])
        _set_parameters(module, node, layer, index=len(layers))
        layers.append(layer)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is _BATCH_NORM and node.meta["val"].dim() == 4:
            layers.append(_as_depthwise(module, node, index=len(layers), quantized=bool(grid.activations)))
    module.graph.eliminate_dead_code()
    module.recompile()
    return tuple(layers)


def _on_grid(layer: Layer, params: QuantParams) -> Layer:
    """The same codes on the grid that they were rounded to, to the last bit."""
    assert layer.codes is not None
    scale = _along(np.array(params.scale, np.float64), layer.weight.ndim, params.axis)
    return replace(layer, params=params, weight=(layer.codes * scale).astype(np.float32))


def _as_depthwise(module: fx.GraphModule, norm: fx.Node, *, index: int, quantized: bool) -> Layer:
    """Turn a batch norm that no convolution can take in into a 1×1 depthwise convolution: one operator, rounded once.

    A channel of one weight is exact on its own symmetric grid: code ±127, scale |weight| / 127.
    """
    factor, shift = _affine(norm)
    scale = np.where(factor == 0, 1.0, np.abs(factor)) / 127
    layer = Layer(
        name=str(norm.args[3].target).rpartition(".")[0],  # type: ignore[union-attr]
        kind="batch_norm",
        weight=factor.astype(np.float32).reshape(-1, 1, 1, 1),
        codes=(np.sign(factor) * 127).astype(np.int8).reshape(-1, 1, 1, 1) if quantized else None,
        params=QuantParams(scale=tuple(scale.tolist()), zero_point=(0,) * scale.size, axis=0) if quantized else None,
        bias=shift,
        shifted_by=_parameter(norm.args[2]),
        scaled_by=_parameter(norm.args[1]),
        input_step=_input_step(norm),
    )
    with module.graph.inserting_before(norm):
        placeholder = norm.args[3]  # any parameter: the next call gives the node its own
        node = module.graph.call_function(
            _ATEN.conv2d.default, (norm.args[0], placeholder, None, [1, 1], [0, 0], [1, 1], factor.size)
        )
    node.meta = dict(norm.meta)
    norm.replace_all_uses_with(node)
    module.graph.erase_node(norm)
    _set_parameters(module, node, layer, index=index)
    return layer


def _affine(norm: fx.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Batch norm in evaluation mode as y = factor·x + shift, per channel."""
    module = norm.graph.owning_module
    assert module is not None
    gamma, beta, mean, variance = (
        None if arg is None else _attribute(module, arg).astype(np.float64) for arg in norm.args[1:5]
    )
    if mean is None or variance is None:
        raise UnsupportedError(
            f"{norm.name}: this batch norm keeps no running statistics; train it with track_running_stats=True"
        )
    factor = 1.0 / np.sqrt(variance + float(norm.args[7]))  # type: ignore[arg-type]
    if gamma is not None:
        factor = factor * gamma
    return factor, (0.0 if beta is None else beta) - mean * factor


def _layer(module: fx.GraphModule, node: fx.Node, grid: Grid) -> Layer:
    name = str(node.args[1].target)  # type: ignore[union-attr]
    weight = _attribute(module, node.args[1])
    bias_node = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    bias = None if bias_node is None else _attribute(module, bias_node).astype(np.float64)
    params = grid.weights.get(name)
    codes = None
    if params is not None:
        scale = _along(np.array(params.scale, np.float64), weight.ndim, params.axis)
        codes = np.rint(weight / scale).astype(np.int8)
    return Layer(
        name=name,
        kind=str(node.target).split(".")[1],
        weight=weight,
        codes=codes,
        params=params,
        bias=bias,
        shifted_by=_parameter(bias_node),
        input_step=_input_step(node),
    )


def _parameter(node: Any) -> str | None:
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None


def _input_step(node: fx.Node) -> float | None:
    """The scale of the grid that a layer's input was rounded to, before whatever only moves its values."""
    source: Any = node.args[0]
    while isinstance(source, fx.Node) and source.op == "call_function" and source.args:
        if str(source.target).startswith("quantized_decomposed.dequantize_per_tensor"):
            return float(source.args[1])  # type: ignore[arg-type]
        source = source.args[0]
    return None


def _with_batch_norm(layer: Layer, norm: fx.Node, *, transposed: bool, rounded: bool) -> Layer:
    factor, shift = _affine(norm)
    axis = 1 if transposed else 0
    if layer.weight.shape[axis] != factor.size:
        raise UnsupportedError(f"{layer.name}: batch norm after a grouped transposed convolution can't be folded")
    folded = replace(
        layer,
        bias=shift if layer.bias is None else layer.bias * factor + shift,
        shifted_by=_parameter(norm.args[2]),
        scaled_by=_parameter(norm.args[1]),
        weight=(layer.weight * _along(factor, layer.weight.ndim, axis)).astype(np.float32),
    )
    if layer.codes is None or layer.params is None:
        return folded
    signs = np.where(factor < 0, -1, 1).astype(np.int8)
    scale = np.broadcast_to(np.array(layer.params.scale, np.float64), factor.shape) * np.abs(factor)
    codes = layer.codes * _along(signs, layer.codes.ndim, axis)
    # A channel that batch norm switches off (γ = 0) is zero on any grid: keep its scale usable and its codes zero.
    off = scale == 0
    codes = np.where(_along(off, codes.ndim, axis), np.int8(0), codes)
    scale = np.where(off, np.array(layer.params.scale, np.float64), scale)
    params = replace(layer.params, scale=tuple(scale.tolist()), zero_point=(0,) * scale.size, axis=axis)
    weight = (codes * _along(scale, codes.ndim, axis)).astype(np.float32) if rounded else folded.weight
    return replace(folded, codes=codes, params=params, weight=weight)


def _set_parameters(module: fx.GraphModule, node: fx.Node, layer: Layer, *, index: int) -> None:
    """Give the node its own folded weight and bias."""
    arguments: list[Any] = list(node.args)
    with module.graph.inserting_before(node):
        for position, suffix, value in ((1, "weight", layer.weight), (2, "bias", layer.bias)):
            if value is None:
                continue
            attribute = f"_folded_{index}_{suffix}"
            module.register_parameter(
                attribute, nn.Parameter(torch.from_numpy(np.array(value, np.float32)), requires_grad=False)
            )
            while len(arguments) <= position:
                arguments.append(None)
            arguments[position] = module.graph.get_attr(attribute)
    node.args = tuple(arguments)
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != "bias"}


def _attribute(module: fx.GraphModule, node: Any) -> Array:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    array: Array = value.detach().numpy()
    return array


def _along(vector: Array, dimensions: int, axis: int | None) -> Array:
    """A vector shaped so that it multiplies along one axis of an array."""
    return vector if vector.size == 1 else vector.reshape([-1 if d == (axis or 0) else 1 for d in range(dimensions)])
