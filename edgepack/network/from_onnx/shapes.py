"""ONNX operators that move, cut, join and resize tensors, as torch functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from edgepack.core.types import Array
from edgepack.network.from_onnx.calls import Call
from edgepack.network.imported.batch import expanded, of_one_batch, reshaped

Function = Callable[[Call], Any]
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def shape_array(shape: Any) -> Array:
    """Sizes as an array; of objects where the batch is symbolic."""
    sizes = list(shape)
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, np.int64)
    array = np.empty(len(sizes), object)
    array[:] = sizes
    return array


def _shape(call: Call) -> Array:
    sizes = list(call.tensor().shape)
    return shape_array(sizes[call.attribute("start", 0) : call.attribute("end", len(sizes))])


def _reshape(call: Call) -> torch.Tensor:
    x = call.tensor()
    wanted = call.numbers(1, "shape")
    if not call.attribute("allowzero", 0):
        wanted = [x.shape[place] if isinstance(size, int) and size == 0 else size for place, size in enumerate(wanted)]
    return x.reshape(reshaped(x.shape, wanted, call.choices))


def _flatten(call: Call) -> torch.Tensor:
    x, axis = call.tensor(), call.attribute("axis", 1)
    axis = axis % x.dim() if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    return x.flatten(axis).flatten(0, axis - 1) if axis < x.dim() else x.flatten(0).unsqueeze(-1)


def _squeeze(call: Call) -> torch.Tensor:
    x, axes = call.tensor(), call.listed("axes", 1)
    if axes is None:
        axes = [dim for dim, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    return x.squeeze(tuple(axis % x.dim() for axis in axes))


def _unsqueeze(call: Call) -> torch.Tensor:
    x, axes = call.tensor(), call.listed("axes", 1) or []
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _transpose(call: Call) -> torch.Tensor:
    x = call.tensor()
    return x.permute(call.attribute("perm", list(reversed(range(x.dim())))))


def _concat(call: Call) -> torch.Tensor:
    tensors = [call.tensor(position) for position in range(len(call))]
    axis = call.attribute("axis", 1)
    return torch.cat(of_one_batch(tensors, axis), axis)


def _split(call: Call) -> Any:
    x, axis = call.tensor(), call.attribute("axis", 0)
    sizes = call.listed("split", 1)
    if sizes is None:
        count = len(call.node.outputs)
        size = -(-int(x.shape[axis]) // count)
        sizes = [min(size, int(x.shape[axis]) - size * index) for index in range(count)]
    return torch.split(x, sizes, axis)


def _slice(call: Call) -> torch.Tensor:
    x = call.tensor()
    if call.opset < 10:
        starts, ends = call.attribute("starts"), call.attribute("ends")
        axes, steps = call.attribute("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
        axes = call.numbers(3, "axes") if call.has(3) else list(range(len(starts)))
        steps = call.numbers(4, "steps") if call.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            size = int(x.shape[axis])
            taken = list(range(size))[slice(start, None if end < -size else end, step)]
            x = x.index_select(axis, torch.tensor(taken, dtype=torch.int64))
        else:
            index: list[Any] = [slice(None)] * (axis % x.dim())
            x = x[(*index, slice(start, end, step))]
    return x


def _gather(call: Call) -> torch.Tensor:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    known = call.known(1)
    if known is not None and known.dtype != object:
        if known.ndim == 0:
            return x.select(axis, int(known))
        size = int(x.shape[axis]) if isinstance(x.shape[axis], int) else 0
        flat = torch.from_numpy(np.where(known < 0, known + size, known).reshape(-1).astype(np.int64))
        taken = x.index_select(axis, flat)
        return (
            taken
            if known.ndim == 1
            else taken.reshape(*x.shape[: axis % x.dim()], *known.shape, *x.shape[axis % x.dim() + 1 :])
        )
    indices = call.tensor(1)
    if axis == 0 and x.dim() == 2 and call.constants.get(call.node.inputs[0]) is not None:
        return F.embedding(indices, x)
    index: list[Any] = [slice(None)] * (axis % x.dim())
    return x[(*index, indices)]


def _gather_elements(call: Call) -> torch.Tensor:
    return torch.gather(call.tensor(0), call.attribute("axis", 0), call.tensor(1))


def _expand(call: Call) -> torch.Tensor:
    x, wanted = call.tensor(), call.numbers(1, "shape")
    if len(wanted) < x.dim():
        wanted = [1] * (x.dim() - len(wanted)) + wanted
    own = [1] * (len(wanted) - x.dim()) + list(x.shape)
    sizes = [mine if isinstance(size, int) and size == 1 else size for size, mine in zip(wanted, own, strict=True)]
    return x.expand(expanded(x.shape, sizes))


def _tile(call: Call) -> torch.Tensor:
    return call.tensor().repeat(call.numbers(1, "repeats"))


def _constant_of_shape(call: Call) -> torch.Tensor:
    value = call.attribute("value", np.zeros(1, np.float32)).reshape(-1)[0]
    return torch.full(call.numbers(0, "shape"), value.item(), dtype=torch.from_numpy(np.array([value])).dtype)


def _range(call: Call) -> torch.Tensor:
    start, limit, delta = (call.numbers(position, "bounds")[0] for position in range(3))
    return torch.arange(start, limit, delta)


def _pad(call: Call) -> torch.Tensor:
    x, mode = call.tensor(), call.attribute("mode", "constant")
    pads = call.attribute("pads") or call.numbers(1, "pads")
    value = call.attribute("value", 0.0) if call.opset < 11 else (call.scalar(2) or 0.0)
    axes = [axis % x.dim() for axis in call.numbers(3, "axes")] if call.has(3) else list(range(x.dim()))
    if mode not in _PAD_MODES:
        raise call.unsupported(f"its mode is {mode}")
    half = len(pads) // 2
    sides = {axis: (pads[place], pads[place + half]) for place, axis in enumerate(axes)}
    flat = [side for dim in reversed(range(x.dim())) for side in sides.get(dim, (0, 0))]
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if not flat:
        return x
    return F.pad(x, flat, _PAD_MODES[mode], value) if mode == "constant" else F.pad(x, flat, _PAD_MODES[mode])


def _depth_to_space(call: Call) -> torch.Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    if call.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    batch, channels, height, width = x.shape
    x = x.reshape(batch, block, block, channels // (block * block), height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // (block * block), height * block, width * block)


def _space_to_depth(call: Call) -> torch.Tensor:
    x, block = call.tensor(), call.attribute("blocksize")
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // block, block, width // block, block)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * block * block, height // block, width // block)


def _resize(call: Call) -> torch.Tensor:
    x, mode = call.tensor(), call.attribute("mode", "nearest")
    where = call.attribute("coordinate_transformation_mode", "half_pixel" if call.opset > 10 else "asymmetric")
    if call.attribute("antialias", 0) or (
        call.has(3) and call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise call.unsupported("antialias or keep_aspect_ratio_policy is set")
    by = _sizes(call, x)
    if mode == "nearest":
        whole = all(
            isinstance(size, int) and size % int(old) == 0 for size, old in zip(by["size"], x.shape[2:], strict=True)
        )
        floor = where == "asymmetric" and call.attribute("nearest_mode", "round_prefer_floor") == "floor"
        if not (whole or floor) or where == "align_corners":
            raise call.unsupported(f"nearest with {where} and this factor")
        return F.interpolate(x, size=by["size"], mode="nearest")
    flat = {1: "linear", 2: "bilinear", 3: "trilinear"}.get(x.dim() - 2)
    name = {"linear": flat, "cubic": "bicubic" if x.dim() == 4 else None}.get(mode)
    if name is None or where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.unsupported(f"mode {mode} with {where}")
    if mode == "cubic" and call.attribute("cubic_coeff_a", -0.75) != -0.75:
        raise call.unsupported("its cubic_coeff_a is not -0.75")
    size_or_factor = (
        {"size": by["size"]} if by["factors"] is None or where == "align_corners" else {"scale_factor": by["factors"]}
    )
    return F.interpolate(x, mode=name, align_corners=where == "align_corners", **size_or_factor)


def _sizes(call: Call, x: torch.Tensor) -> dict[str, Any]:
    """The size of the result, and the factors where those are given."""
    place = 1 if call.opset < 11 else 2
    if call.has(3) and len(call.needed(3, "sizes")):
        axes = call.attribute("axes", list(range(x.dim())))
        given = dict(zip((axis % x.dim() for axis in axes), call.numbers(3, "sizes"), strict=True))
        return {"size": [int(given.get(dim, x.shape[dim])) for dim in range(2, x.dim())], "factors": None}
    scales = call.attribute("scales") or call.needed(place, "scales").tolist()
    axes = call.attribute("axes", list(range(x.dim())))
    by_axis = dict(zip((axis % x.dim() for axis in axes), scales, strict=True))
    if any(by_axis.get(dim, 1) != 1 for dim in (0, 1)):
        raise call.unsupported("it resizes the batch or the channels")
    factors = [float(by_axis.get(dim, 1)) for dim in range(2, x.dim())]
    return {"size": [int(int(x.shape[dim + 2]) * factor) for dim, factor in enumerate(factors)], "factors": factors}


def _upsample(call: Call) -> torch.Tensor:
    x = call.tensor()
    scales = [float(scale) for scale in call.attribute("scales") or call.needed(1, "scales").tolist()]
    if call.attribute("mode", "nearest") != "nearest" or scales[:2] != [1.0, 1.0]:
        raise call.unsupported("it is not nearest, or resizes the batch or the channels")
    return F.interpolate(x, scale_factor=scales[2:], mode="nearest")


def _trilu(call: Call) -> torch.Tensor:
    offset = int(call.numbers(1, "k")[0]) if call.has(1) else 0
    return torch.triu(call.tensor(), offset) if call.attribute("upper", 1) else torch.tril(call.tensor(), offset)


def _size(call: Call) -> Array:
    count: Any = 1
    for size in call.tensor().shape:
        count = count * size
    return shape_array([count]).reshape(())


SHAPES: dict[str, Function] = {
    "Concat": _concat, "ConstantOfShape": _constant_of_shape, "DepthToSpace": _depth_to_space, "Expand": _expand, "Flatten": _flatten,
    "Gather": _gather, "GatherElements": _gather_elements, "Pad": _pad, "Range": _range, "Reshape": _reshape, "Resize": _resize,
    "Shape": _shape, "Size": _size, "Slice": _slice, "SpaceToDepth": _space_to_depth, "Split": _split, "Squeeze": _squeeze, "Tile": _tile,
    "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze, "Upsample": _upsample,
}  # fmt: skip
