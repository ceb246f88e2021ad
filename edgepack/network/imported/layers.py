"""Passes that bring weighted operations into the few forms that quantization and exporters know."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from edgepack.core.errors import SourceError
from edgepack.network.imported.draft import Constant, Draft, argument, kind_of, shape_of

aten = torch.ops.aten
_CONVOLUTIONS = {
    "conv1d": 0, "conv2d": 0, "conv3d": 0, "conv_transpose1d": 1, "conv_transpose2d": 1, "conv_transpose3d": 1,
}  # fmt: skip
_BY_RANK = {
    (3, False): aten.conv1d.default, (4, False): aten.conv2d.default, (5, False): aten.conv3d.default,
    (3, True): aten.conv_transpose1d.default, (4, True): aten.conv_transpose2d.input, (5, True): aten.conv_transpose3d.input,
}  # fmt: skip
_SIXTH_TOLERANCE = 1e-6  # float32 of 1/6
_AFFINE = {"add", "sub", "mul", "div", "rsub"}


def recompose(draft: Draft) -> None:
    """Make named layers of what decomposition took apart: convolutions, linear layers, batch and layer norms.

    Raises SourceError for batch norm in training mode.
    """
    for node in list(draft.graph.nodes):
        kind = kind_of(node)
        if kind == "convolution":
            _convolution(draft, node)
        elif kind in ("mm", "matmul", "addmm"):
            _linear(draft, node)
        elif kind in (
            "_native_batch_norm_legit_no_training",
            "native_batch_norm",
            "native_layer_norm",
            "native_group_norm",
        ):
            _norm(draft, node, kind)
        elif kind in ("mul", "div"):
            _hard_sigmoid(draft, node)
        elif kind == "max_pool2d_with_indices" and _only_first(node):
            _first_of(
                draft,
                node,
                draft.call(aten.max_pool2d.default, *node.args, before=node, value=node.meta["val"][0], **node.kwargs),
            )
        elif "batch_norm" in kind and kind != "batch_norm":
            raise SourceError(
                f"{node.name}: the program was exported in training mode (batch norm uses the batch's own statistics); export model.eval()"
            )
    draft.sweep()


def _convolution(draft: Draft, node: fx.Node) -> None:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = node.args
    target = _BY_RANK[len(shape_of(node)), bool(transposed)]
    rest = (output_padding, groups, dilation) if transposed else (dilation, groups)
    draft.replace(node, draft.call(target, x, weight, bias, stride, padding, *rest, before=node))


def _linear(draft: Draft, node: fx.Node) -> None:
    """A product with a constant matrix is a linear layer."""
    is_addmm = kind_of(node) == "addmm"
    x, weight = node.args[1:3] if is_addmm else node.args[:2]
    matrix, constant = draft.tensor(weight), draft.constant(weight)
    if matrix is None or matrix.dim() != 2 or not matrix.is_floating_point() or draft.constant(x) is not None:
        return
    bias = node.args[0] if is_addmm else None
    if is_addmm and (node.kwargs or draft.tensor(bias) is None or draft.tensor(bias).dim() != 1):  # type: ignore[union-attr]
        return
    turned = draft.add_constant(matrix.t().contiguous(), like=constant, before=node)
    draft.replace(node, draft.call(aten.linear.default, x, turned, bias, before=node))


def _norm(draft: Draft, node: fx.Node, kind: str) -> None:
    if not _only_first(node):
        return
    args, value = node.args, node.meta["val"][0]
    if kind == "native_layer_norm":
        new = draft.call(aten.layer_norm.default, *args, before=node, value=value)
    elif kind == "native_group_norm":
        new = draft.call(aten.group_norm.default, args[0], args[6], args[1], args[2], args[7], before=node, value=value)
    else:
        if kind == "native_batch_norm" and args[5]:
            raise SourceError(
                f"{node.name}: the program was exported in training mode (batch norm uses the batch's own statistics); export model.eval()"
            )
        momentum, epsilon = args[-2:]
        new = draft.call(aten.batch_norm.default, *args[:5], False, momentum, epsilon, False, before=node, value=value)
    _first_of(draft, node, new)


def _hard_sigmoid(draft: Draft, node: fx.Node) -> None:
    """relu6(x + 3) / 6, as MobileNet-V3 was first written."""
    factor = (
        node.args[1] if kind_of(node) == "mul" else 1 / node.args[1] if isinstance(node.args[1], (int, float)) else None
    )
    if not isinstance(factor, (int, float)) or abs(factor - 1 / 6) > _SIXTH_TOLERANCE:
        return
    if (x := shifted_under_relu6(node.args[0])) is not None:
        draft.replace(node, draft.call(aten.hardsigmoid.default, x, before=node))


def shifted_under_relu6(node: Any) -> fx.Node | None:
    """The x of relu6(x + 3)."""
    is_relu6 = kind_of(node) == "relu6" or (
        kind_of(node) in ("clamp", "hardtanh") and [argument(node, 1, "min"), argument(node, 2, "max")] == [0, 6]
    )
    shifted: Any = node.args[0] if is_relu6 else None
    if kind_of(shifted) != "add" or shifted.args[1] != 3 or shifted.kwargs:
        return None
    return shifted.args[0] if isinstance(shifted.args[0], fx.Node) else None


def _only_first(node: fx.Node) -> bool:
    return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)


def _first_of(draft: Draft, node: fx.Node, new: fx.Node) -> None:
    for user in list(node.users):
        draft.replace(user, new)
    draft.graph.erase_node(node)


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = scale · x + shift; each is a tensor that broadcasts to y. `named` is the constant that the layer is called after."""

    node: fx.Node
    source: fx.Node
    scale: torch.Tensor
    shift: torch.Tensor
    named: Constant | None


def fold_affine(draft: Draft) -> None:
    """Take sums and products with constants of each channel into the layer before; make a batch norm of those that follow no layer."""
    for node in list(draft.graph.nodes):
        step = _affine_step(draft, node)
        if step is None or (len(node.users) == 1 and _affine_step(draft, next(iter(node.users))) is not None):
            continue  # not the last of its chain
        steps = [step]
        while len(steps[-1].source.users) == 1 and (before := _affine_step(draft, steps[-1].source)) is not None:
            steps.append(before)
        if not _into_layer(draft, steps) and (len(steps) > 1 or _is_image(steps[-1].source)):
            _as_batch_norm(draft, steps)
    draft.sweep()


def _affine_step(draft: Draft, node: fx.Node) -> _Affine | None:
    kind = kind_of(node)
    if kind not in _AFFINE or not set(node.kwargs) <= {"alpha"} or len(node.args) < 2:
        return None
    left, right = node.args[:2]
    if draft.constant(left) is None and isinstance(left, fx.Node):
        source, other, swapped = left, right, False
    elif draft.constant(right) is None and isinstance(right, fx.Node) and kind in ("add", "mul", "sub"):
        source, other, swapped = right, left, True
    else:
        return None
    constant = draft.constant(other)
    if constant is None and not isinstance(other, (int, float)):
        return None
    value = torch.tensor(float(other)) if constant is None else constant.value  # type: ignore[arg-type]
    outcome = node.meta["val"]
    if not value.is_floating_point() or not outcome.is_floating_point() or len(shape_of(source)) != outcome.dim():
        return None
    if value.dim() > outcome.dim() or outcome.dtype != source.meta["val"].dtype:
        return None
    alpha = float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    scale, shift = {
        "add": (one * (alpha if swapped else 1), value * (1 if swapped else alpha)),
        "sub": (-one * alpha, value) if swapped else (one, -value * alpha),
        "rsub": (-one * alpha, value),
        "mul": (value, zero),
        "div": (1 / value, zero),
    }[kind]
    return _Affine(node, source, scale, shift, constant)


def _channels(value: torch.Tensor, *, rank: int, axis: int, count: int) -> torch.Tensor | None:
    """A broadcasting tensor as one number a channel, or None where it differs along another dimension."""
    full = value.reshape([1] * (rank - value.dim()) + list(value.shape))
    if any(size != 1 for dim, size in enumerate(full.shape) if dim != axis) or full.shape[axis] not in (1, count):
        return None
    return full.reshape(-1).expand(count).double()


def _combined(steps: list[_Affine], *, axis: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The whole chain as scale and shift of each channel (float64)."""
    shape = shape_of(steps[0].node)
    count = shape[axis]
    if not isinstance(count, int):
        return None
    scale, shift = torch.ones(count).double(), torch.zeros(count).double()
    for step in reversed(steps):  # the innermost first
        by = _channels(step.scale, rank=len(shape), axis=axis, count=count)
        plus = _channels(step.shift, rank=len(shape), axis=axis, count=count)
        if by is None or plus is None:
            return None
        scale, shift = scale * by, shift * by + plus
    return scale, shift


def _into_layer(draft: Draft, steps: list[_Affine]) -> bool:
    layer = steps[-1].source
    kind = kind_of(layer)
    if kind not in _CONVOLUTIONS and kind != "linear":
        return False
    weight, bias = draft.constant(layer.args[1]), argument(layer, 2, "bias")
    if weight is None or (bias is not None and draft.constant(bias) is None) or len(layer.users) > 1:
        return False
    if len(layer.args[1].users) > 1:  # type: ignore[union-attr]
        return False  # another layer shares this weight
    rank = len(shape_of(layer))
    found = _combined(steps, axis=rank - 1 if kind == "linear" else 1)
    weight_axis = _CONVOLUTIONS.get(kind, 0)
    if found is None or (weight_axis == 1 and _groups(layer) != 1):
        return False
    scale, shift = found
    along = scale.reshape([-1 if dim == weight_axis else 1 for dim in range(weight.value.dim())])
    old_bias = draft.tensor(bias)
    new_bias = shift if old_bias is None else old_bias.double() * scale + shift
    arguments: list[Any] = [*layer.args[:2], *(layer.args[2:] or (None,))]
    before = steps[0].node
    arguments[1] = draft.add_constant(
        (weight.value.double() * along).to(weight.value.dtype), like=weight, before=before
    )
    if old_bias is not None or bool(new_bias.any()) or any(step.shift.numel() > 1 for step in steps):
        like = draft.constant(bias) or Constant(name=f"{weight.name}_bias", value=new_bias, trainable=weight.trainable)
        arguments[2] = draft.add_constant(new_bias.to(weight.value.dtype), like=like, before=before)
    kwargs = {key: value for key, value in layer.kwargs.items() if key != "bias"}
    draft.replace(before, draft.call(layer.target, *arguments, before=before, **kwargs))  # type: ignore[arg-type]
    return True


def _groups(layer: fx.Node) -> int:
    return int(argument(layer, 6, "groups", 1))


def _is_image(node: fx.Node) -> bool:
    """An input, as it is or turned, that goes to convolutions, padded perhaps, when its values are scaled: its second dimension is the channels."""
    source = node.args[0] if kind_of(node) in ("permute", "view") else node
    is_input = isinstance(source, fx.Node) and source.op == "placeholder" and len(shape_of(node)) == 4
    return is_input and all(_feeds_convolutions(user) for user in node.users)


def _feeds_convolutions(node: fx.Node) -> bool:
    kind = kind_of(node)
    return kind == "conv2d" or (
        kind in (*_AFFINE, "pad", "constant_pad_nd", "batch_norm") and all(map(_feeds_convolutions, node.users))
    )


def _as_batch_norm(draft: Draft, steps: list[_Affine]) -> None:
    """Only where a scale and a shift really differ between channels, or where the pixels of an image are scaled: one operator for both."""
    last = steps[0].node
    if not 2 <= len(shape_of(last)) <= 5:
        return
    found = _combined(steps, axis=1)
    if found is None or (not _is_image(steps[-1].source) and all(bool((value == value[0]).all()) for value in found)):
        return
    dtype = last.meta["val"].dtype
    named = next((step.named for step in steps if step.named is not None), None)
    name = "batch_norm" if named is None else named.name
    values = (found[0], found[1], torch.zeros_like(found[0]), torch.ones_like(found[0]))
    constants = [
        draft.add_constant(value.to(dtype), like=Constant(name=name, value=value, trainable=index < 2), before=last)
        for index, value in enumerate(values)
    ]
    source = steps[-1].source
    draft.replace(last, draft.call(aten.batch_norm.default, source, *constants, False, 0.1, 0.0, False, before=last))
