"""A network as torch.export's graph of ATen operators: for a batch of any size, and with a node for each rounding, where that is asked."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from edgepack.core.errors import StageError, UnsupportedError
from edgepack.core.said import every_line
from edgepack.core.types import Grid, QuantParams
from edgepack.network.model import Model


def graph_of(network: nn.Module, model: Model, *, dynamic_batch: bool) -> fx.GraphModule:
    """The graph of a network with the inputs of `model`; `dynamic_batch` leaves their first dimension open. Raises UnsupportedError."""
    # torch.export takes a dimension of 1 for a constant, so an open one is shown as 2.
    example = model.example(2) if dynamic_batch else model.example()
    shapes = batch_shapes(model) if dynamic_batch else None
    try:
        module = torch.export.export(network, example, dynamic_shapes=shapes).module()
    except Exception as exc:
        hint = " with a batch of any size (dynamic_batch)" if dynamic_batch else ""
        raise UnsupportedError(f"torch.export can't trace the model{hint}: {every_line(exc)}") from exc
    if not isinstance(module, fx.GraphModule):
        raise StageError(f"torch.export gave a {type(module).__name__} instead of a graph")
    return module


def batch_shapes(model: Model) -> tuple[dict[int, Any], ...]:
    """torch.export's dynamic shapes for a batch of any size, in the order of forward."""
    batch = torch.export.Dim("batch")
    return tuple({0: batch} for _ in model.inputs)


def with_quantizers(network: nn.Module, grid: Grid) -> nn.Module:
    """The network with hooks that round: tracing goes through them, so each quantizer lands where its operation is."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401  # registers torch.ops.quantized_decomposed
    from nncf.torch.function_hook import register_post_function_hook, wrap_model

    hooked = wrap_model(copy.deepcopy(network))
    for name, params in grid.activations.items():
        register_post_function_hook(hooked, name, 0, _Quantizer(params))
    return hooked  # type: ignore[no-any-return]


class _Quantizer(nn.Module):
    """Rounds a tensor to its grid, as two nodes that exporters know."""

    def __init__(self, params: QuantParams) -> None:
        super().__init__()
        self.scale, self.zero_point = params.scale[0], params.zero_point[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = (self.scale, self.zero_point, -128, 127, torch.int8)
        codes = torch.ops.quantized_decomposed.quantize_per_tensor(x, *grid)
        real: torch.Tensor = torch.ops.quantized_decomposed.dequantize_per_tensor(codes, *grid)
        return real


def quantizer_order(module: fx.GraphModule, grid: Grid) -> tuple[str, ...]:
    """The operation of each quantize node, from the path of the hook that made it."""
    names = {f"{name.replace('.', ':')}__0": name for name in grid.activations}
    order: list[str] = []
    for node in module.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith("quantized_decomposed.quantize_per_tensor"):
            paths = [str(path) for path, _ in node.meta["nn_module_stack"].values()]
            hooks = [path.rpartition(".post_hooks.")[2].rpartition(".")[0] for path in paths]
            order.append(next(names[key] for key in hooks if key in names))
    return tuple(order)


def take_nhwc(module: fx.GraphModule, turned: tuple[bool, ...]) -> None:
    """Let the program take some of its image inputs as NHWC. (Edited inside, so that tensors keep their module names.)"""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, turn in zip(placeholders, turned, strict=True):
        if turn:
            with module.graph.inserting_after(node):
                permuted = module.graph.call_function(torch.ops.aten.permute.default, (node, [0, 3, 1, 2]))
            node.replace_all_uses_with(permuted, delete_user_cb=lambda user, own=permuted: user is not own)
            node.meta.pop("val", None)
    module.recompile()
