"""From an edited program to a network: layers become modules that are called as their weights are, the rest torch functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from edgepack.network.imported.draft import Constant, Draft, argument, kind_of
from edgepack.network.imported.functions import call_of

_NOT_PLAIN = re.compile(r"\W+")
_WEIGHT = re.compile(r"[._/:](weight|kernel|gamma|embeddings?|W)(_\d+)?(:0)?$")
_MADE_UP = re.compile(r"^(constant|lifted_tensor|_?tensor_constant|const|onnx::|val_|\d)")


@dataclass(slots=True)
class _Assembly:
    """The network under construction, and the graph that calls it."""

    draft: Draft
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    made: dict[tuple[Any, ...], str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def free_name(self, wanted: str) -> str:
        """The wanted name, or one with a number where it is taken."""
        path, number = wanted, 1
        while path in self.taken or hasattr(self.root, path):
            path, number = f"{wanted}_{number}", number + 1
        self.taken.add(path)
        return path


def assemble(draft: Draft) -> nn.Module:
    """The network. Raises UnsupportedError for an operation that no torch function computes."""
    work = _Assembly(draft)
    built: dict[fx.Node, fx.Node] = {}
    for node in draft.graph.nodes:
        if node.op == "get_attr":
            continue  # placed where it is used: most become part of a layer
        if node.op in ("placeholder", "output"):
            for constant in (one for one in node.all_input_nodes if one.op == "get_attr"):
                _place_constant(work, constant, built)
            built[node] = work.graph.node_copy(node, built.__getitem__)
            built[node].meta = {}
            continue
        layer = _LAYERS.get(kind_of(node))
        made = layer(work, node) if layer is not None else None
        if made is not None:
            source = node.args[1] if kind_of(node) == "embedding" else node.args[0]
            built[node] = work.graph.call_module(made, (built[source],))
            continue
        for constant in (one for one in node.all_input_nodes if one.op == "get_attr"):
            _place_constant(work, constant, built)
        args, kwargs = fx.map_arg((node.args, node.kwargs), built.__getitem__)
        op, target, args, kwargs = call_of(node, tuple(args), dict(kwargs))
        built[node] = work.graph.create_node(op, target, args, kwargs)
    work.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return _network(work)


def _network(work: _Assembly) -> nn.Module:
    """A plain module: for an fx.GraphModule NNCF would take another route."""
    output = next(node for node in work.graph.nodes if node.op == "output")
    (values,) = output.args
    output.args = (values[0] if isinstance(values, (list, tuple)) and len(values) == 1 else values,)
    compiled = fx.GraphModule(work.root, work.graph)

    class Imported(nn.Module):
        """A network that was read from a file."""

        forward = type(compiled).forward

    network = Imported()
    for name, module in compiled.named_children():
        network.add_module(name, module)
    for name, parameter in compiled.named_parameters(recurse=False):
        network.register_parameter(name, parameter)
    for name, buffer in compiled.named_buffers(recurse=False):
        network.register_buffer(name, buffer)
    return network.eval()


def _place_constant(work: _Assembly, node: fx.Node, built: dict[fx.Node, fx.Node]) -> None:
    if node in built:
        return
    constant = work.draft.constant(node)
    assert constant is not None
    name = work.free_name(_plain(constant.name) or "constant")
    value = constant.value.clone()
    if constant.trainable:
        work.root.register_parameter(name, nn.Parameter(value))
    else:
        work.root.register_buffer(name, value)
    built[node] = work.graph.get_attr(name)


# --- Layers ---------------------------------------------------------------------------------------------------------


def _layer(
    work: _Assembly, node: fx.Node, make: Callable[[], nn.Module], tensors: dict[str, Any], options: tuple[Any, ...]
) -> str | None:
    """The path of a module with these constants; the same layer used twice is one module. None where an argument is computed."""
    constants = {name: work.draft.constant(arg) for name, arg in tensors.items() if arg is not None}
    if any(constant is None for constant in constants.values()) or "weight" not in constants:
        return None
    key = (kind_of(node), *sorted((name, arg.target) for name, arg in tensors.items() if arg is not None), *options)
    if key not in work.made:
        module = make()
        for name, constant in constants.items():
            assert constant is not None
            value = constant.value.clone()
            setattr(module, name, value if name.startswith("running") else nn.Parameter(value))
        weight = constants["weight"]
        assert weight is not None
        path = work.free_name(_path(weight, kind_of(node), len(work.made)))
        work.root.add_module(path, module)
        work.made[key] = path
    return work.made[key]


def _path(weight: Constant, kind: str, index: int) -> str:
    """What a layer is called, after its weight: 'features.0.weight' → 'features_0'.

    All are children of the root: NNCF names an operation by the modules that were called on the way to it.
    """
    name = _WEIGHT.sub("", weight.name)
    if name == weight.name and _MADE_UP.match(name):
        return f"{kind}_{index}"
    return _plain(name) or f"{kind}_{index}"


def _plain(name: str) -> str:
    return _NOT_PLAIN.sub("_", name).strip("_")


_CONVOLUTION_CLASSES: dict[str, type[nn.Module]] = {
    "conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d, "conv_transpose2d": nn.ConvTranspose2d, "conv_transpose3d": nn.ConvTranspose3d,
}  # fmt: skip


def _convolution(work: _Assembly, node: fx.Node) -> str | None:
    kind = kind_of(node)
    weight = work.draft.tensor(node.args[1])
    if weight is None:
        return None
    transposed = "transpose" in kind
    stride, padding = argument(node, 3, "stride", 1), argument(node, 4, "padding", 0)
    groups = int(argument(node, 6, "groups", 1))
    dilation = argument(node, 7 if transposed else 5, "dilation", 1)
    options: dict[str, Any] = {
        "stride": _sizes(stride), "padding": _sizes(padding), "dilation": _sizes(dilation), "groups": groups,
    }  # fmt: skip
    if transposed:
        options["output_padding"] = _sizes(argument(node, 5, "output_padding", 0))
    into, out = (
        (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, weight.shape[0])
    )
    bias = argument(node, 2, "bias")

    def make() -> nn.Module:
        kernel = tuple(weight.shape[2:])
        return _CONVOLUTION_CLASSES[kind](into, out, kernel, bias=bias is not None, **options)

    return _layer(work, node, make, {"weight": node.args[1], "bias": bias}, tuple(sorted(options.items())))


def _sizes(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _linear(work: _Assembly, node: fx.Node) -> str | None:
    weight = work.draft.tensor(node.args[1])
    if weight is None or weight.dim() != 2:
        return None
    bias = argument(node, 2, "bias")
    return _layer(
        work,
        node,
        lambda: nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None),
        {"weight": node.args[1], "bias": bias},
        (),
    )


def _batch_norm(work: _Assembly, node: fx.Node) -> str | None:
    _x, weight, bias, mean, variance, _training, momentum, epsilon, *_ = node.args
    if any(work.draft.constant(arg) is None for arg in (weight, bias, mean, variance)):
        return None
    count = work.draft.tensor(weight).numel()  # type: ignore[union-attr]
    rank = node.meta["val"].dim()
    kind: type[nn.Module] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank]

    tensors = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    return _layer(work, node, lambda: kind(count, eps=epsilon, momentum=momentum), tensors, (epsilon, momentum))


def _layer_norm(work: _Assembly, node: fx.Node) -> str | None:
    shape = tuple(node.args[1])  # type: ignore[arg-type]
    weight, bias, epsilon = argument(node, 2, "weight"), argument(node, 3, "bias"), argument(node, 4, "eps", 1e-5)
    return _layer(
        work,
        node,
        lambda: nn.LayerNorm(shape, eps=epsilon, bias=bias is not None),
        {"weight": weight, "bias": bias},
        (shape, epsilon),
    )


def _embedding(work: _Assembly, node: fx.Node) -> str | None:
    weight = work.draft.tensor(node.args[0])
    if weight is None:
        return None
    return _layer(work, node, lambda: nn.Embedding(*weight.shape), {"weight": node.args[0]}, ())


def _prelu(work: _Assembly, node: fx.Node) -> str | None:
    weight = work.draft.tensor(node.args[1])
    return (
        None if weight is None else _layer(work, node, lambda: nn.PReLU(weight.numel()), {"weight": node.args[1]}, ())
    )


_LAYERS: dict[str, Callable[[_Assembly, fx.Node], str | None]] = {
    **dict.fromkeys(_CONVOLUTION_CLASSES, _convolution),
    "linear": _linear, "batch_norm": _batch_norm, "layer_norm": _layer_norm, "embedding": _embedding, "prelu": _prelu,
}  # fmt: skip
