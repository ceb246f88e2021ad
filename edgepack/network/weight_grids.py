"""Weights of few bits beside float activations: their codes, scales and zero points, and NNCF's compressed network taken apart into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.core.types import Array

if TYPE_CHECKING:
    from edgepack.network.program import Layer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightGrid:
    """How a weight's values are written: (code − zero point) × scale.

    `codes` are int8 (-2^(bits-1) …) or, where there is a `zero_point`, uint8 (0 … 2^bits - 1), of the weight's shape, or of (outputs, groups, group size)
    where `scale` (float16; float32 once a batch norm is folded in) and `zero_point` (uint8) differ by group; these two have 1 for each axis along which they are the same. `shape` is the weight's.
    """

    bits: int
    codes: Array
    scale: NDArray[np.float16] | NDArray[np.float32]
    zero_point: NDArray[np.uint8] | None
    shape: tuple[int, ...]

    def values(self) -> NDArray[np.float32]:
        """The real values, of the weight's shape."""
        offset = np.float32(0) if self.zero_point is None else self.zero_point.astype(np.float32)
        values: NDArray[np.float32] = (self.codes.astype(np.float32) - offset) * self.scale.astype(np.float32)
        return values.reshape(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        zero_points = 0 if self.zero_point is None else self.zero_point.size
        return -(-self.codes.size * self.bits // 8) + 2 * self.scale.size + -(-zero_points * self.bits // 8)


def folded(grids: Mapping[str, WeightGrid], layers: Iterable[Layer]) -> dict[bytes, tuple[str, WeightGrid]]:
    """The grids as a float program has them, with their parameters' names, by the bytes of the program's float32 weights.

    Folding a batch norm multiplies each output channel, and so its scales; the codes stay.
    """
    found = {grid.values().tobytes(): (name, grid) for name, grid in grids.items()}
    for layer in layers:
        grid, weight = grids.get(layer.name), np.ascontiguousarray(layer.weight, np.float32)
        if grid is None or weight.tobytes() in found or weight.shape != grid.shape:
            continue
        axis = 1 if "transpose" in layer.kind else 0
        values, others = grid.values(), tuple(d for d in range(weight.ndim) if d != axis)
        factor = (weight * values).sum(others) / np.maximum((values * values).sum(others), 1e-30)
        if np.allclose(weight, values * _along(factor, weight.ndim, axis), rtol=1e-4, atol=1e-7):
            scale = grid.scale.astype(np.float32) * _along(factor, grid.codes.ndim, axis).astype(np.float32)
            found[weight.tobytes()] = (layer.name, replace(grid, scale=scale))
    return found


def _along(vector: Array, dimensions: int, axis: int) -> Array:
    return vector.reshape([-1 if d == axis else 1 for d in range(dimensions)])


def grids_of(network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, WeightGrid]:
    """The grid of every weight that NNCF has compressed, by parameter name. `shapes` are the parameters' own.

    Raises UnsupportedError for a form of compressed weight that is not known here.
    """
    from nncf.torch.function_hook.wrapper import get_hook_storage

    state = dict(network.named_parameters()) | dict(network.named_buffers())
    found = {}
    for place, hook in get_hook_storage(network).named_hooks():
        name = place.removeprefix("post_hooks.").rpartition("__")[0].replace(":", ".")
        if name not in shapes or name not in state:
            raise UnsupportedError(
                f"{place}: NNCF compressed what is no parameter; leave this layer out with ignored_layers"
            )
        found[name] = _grid(name, hook, state[name].detach(), shapes[name])
    return found


def _grid(name: str, hook: Any, packed: Any, shape: tuple[int, ...]) -> WeightGrid:
    from nncf.torch.quantization import layers
    from nncf.torch.quantization.quantize_functions import unpack_int4, unpack_uint4

    zero_point = None
    if isinstance(hook, (layers.INT8SymmetricWeightsDecompressor, layers.INT8AsymmetricWeightsDecompressor)):
        bits, codes = 8, packed
        if isinstance(hook, layers.INT8AsymmetricWeightsDecompressor):
            zero_point = hook._zero_point
    elif isinstance(hook, layers.INT4SymmetricWeightsDecompressor):
        bits, codes = 4, unpack_int4(packed).reshape(hook.compressed_weight_shape)
    elif isinstance(hook, layers.INT4AsymmetricWeightsDecompressor):
        bits, codes = 4, unpack_uint4(packed).reshape(hook.compressed_weight_shape)
        zero_point = unpack_uint4(hook._zero_point).reshape(hook.zero_point_shape)
    else:
        raise UnsupportedError(f"{name}: NNCF compressed this weight as {type(hook).__name__}, which can't be exported")
    return WeightGrid(
        bits=bits,
        codes=codes.numpy().copy(),
        scale=hook._scale.numpy().copy(),
        zero_point=None if zero_point is None else zero_point.numpy().copy(),
        shape=shape,
    )


def save_grids(grids: Mapping[str, WeightGrid], file: Path) -> None:
    """Write them; equal grids give equal bytes."""
    arrays: dict[str, Array] = {}
    for name, grid in grids.items():
        arrays |= {f"{name}/codes": grid.codes, f"{name}/scale": grid.scale}
        arrays |= {f"{name}/shape": np.array(grid.shape, np.int64), f"{name}/bits": np.array([grid.bits], np.int64)}
        arrays |= {} if grid.zero_point is None else {f"{name}/zero_point": grid.zero_point}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file)


def load_grids(file: Path) -> dict[str, WeightGrid]:
    """Read what `save_grids` wrote."""
    arrays = load_file(file)
    names = [name.removesuffix("/codes") for name in arrays if name.endswith("/codes")]
    return {
        name: WeightGrid(
            bits=int(arrays[f"{name}/bits"][0]),
            codes=arrays[f"{name}/codes"],
            scale=arrays[f"{name}/scale"],
            zero_point=arrays.get(f"{name}/zero_point"),
            shape=tuple(int(size) for size in arrays[f"{name}/shape"]),
        )
        for name in names
    }
