"""NNCF's hooks in a network, by operation name, and the quantizers that are put there."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgepack.core.types import QuantParams
from edgepack.network.grid.operations import Op

_INT8_BITS, _INT8_LOWEST = 8, -128


class Hooks:
    """NNCF's hook storage, addressed by operation name."""

    def __init__(self, network: nn.Module) -> None:
        from nncf.torch.function_hook.wrapper import get_hook_storage

        self.storage = get_hook_storage(network)

    def quantizer_after(self, op_name: str) -> Any | None:
        return self._first(self.storage.post_hooks, op_name, 0)

    def quantizer_before(self, op_name: str, port: int) -> Any | None:
        return self._first(self.storage.pre_hooks, op_name, port)

    def weight_quantizer(self, op: Op) -> Any | None:
        return self.quantizer_before(op.name, 1)

    def clear_after(self, op_name: str) -> None:
        self._clear("post_hooks", op_name, 0)

    def clear_before(self, op_name: str, port: int) -> None:
        self._clear("pre_hooks", op_name, port)

    def place_after(self, op_name: str, module: nn.Module) -> str:
        handle = self.storage.register_post_function_hook(op_name, 0, module)
        return f"post_hooks.{handle.key}.{handle.id}"

    def place_before(self, op_name: str, port: int, module: nn.Module) -> str:
        handle = self.storage.register_pre_function_hook(op_name, port, module)
        return f"pre_hooks.{handle.key}.{handle.id}"

    def quantized_inputs(self) -> list[tuple[str, int]]:
        """Operation and port of every quantizer before an operation's input."""
        keys = [key.rpartition("__") for key in self.storage.pre_hooks]
        places = [(name.replace(":", "."), int(port)) for name, _, port in keys]
        return [place for place in places if self.quantizer_before(*place) is not None]

    def _first(self, table: nn.ModuleDict, op_name: str, port: int) -> Any | None:
        from nncf.torch.quantization.layers import BaseQuantizer

        key = f"{op_name.replace('.', ':')}__{port}"
        found = [hook for hook in table[key].values() if isinstance(hook, BaseQuantizer)] if key in table else []  # type: ignore[operator]
        return found[0] if found else None

    def _clear(self, side: str, op_name: str, port: int) -> None:
        from nncf.torch.quantization.layers import BaseQuantizer

        key = f"{op_name.replace('.', ':')}__{port}"
        table = getattr(self.storage, side)
        if key in table:
            for hook_id in [i for i, hook in table[key].items() if isinstance(hook, BaseQuantizer)]:
                self.storage.delete_hook(f"{side}.{key}.{hook_id}")


def activation_quantizer(bounds: tuple[float, float], *, bits: int, symmetric: bool) -> nn.Module:
    """A quantizer of a whole tensor that covers a range and has an exact zero.

    A symmetric one has its zero point at code 0 and all codes, -128 … 127 for 8 bits: the step is the smallest with which they cover the range.
    """
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import AsymmetricQuantizer, SymmetricQuantizer

    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    with torch.no_grad():
        if symmetric:
            signed = SymmetricQuantizer(_specification(QuantizationScheme.SYMMETRIC, bits, (1,), narrow=False))
            highest = 2 ** (bits - 1) - 1
            signed.scale.fill_(max(high, -low * highest / (highest + 1), 1e-6))
            return signed  # type: ignore[no-any-return]
        quantizer = AsymmetricQuantizer(_specification(QuantizationScheme.ASYMMETRIC, bits, (1,), narrow=False))
        quantizer.input_low.fill_(low)
        quantizer.input_range.fill_(max(high - low, 1e-6))
        return quantizer  # type: ignore[no-any-return]


def suits(quantizer: nn.Module, *, bits: int, symmetric: bool) -> bool:
    """Whether an activation's quantizer is of the form that the target has: symmetric and signed, or asymmetric, of so many bits.

    Where no value is negative, NNCF's symmetric quantizers take codes 0 … 255, which no signed kernel reads; NNCF refuses to be told otherwise
    (3.4: "incompatible with HW capabilities"), so such a one is replaced.
    """
    from nncf.torch.quantization.layers import AsymmetricQuantizer, SymmetricQuantizer

    if symmetric:
        lowest = -(2 ** (bits - 1))
        return isinstance(quantizer, SymmetricQuantizer) and bool(quantizer.signed) and quantizer.level_low == lowest
    return isinstance(quantizer, AsymmetricQuantizer) and quantizer.num_bits == bits


def weight_quantizer(weight: torch.Tensor, *, axis: int, bits: int) -> nn.Module:
    """A symmetric quantizer that covers each output channel of a weight, in a narrow range (-127 … 127 for 8 bits)."""
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import SymmetricQuantizer

    others = [dimension for dimension in range(weight.dim()) if dimension != axis]
    scale = weight.detach().abs().amax(dim=others, keepdim=True)
    quantizer = SymmetricQuantizer(_specification(QuantizationScheme.SYMMETRIC, bits, tuple(scale.shape), narrow=True))
    with torch.no_grad():
        quantizer.scale.copy_(scale.clamp_min(1e-12))
    return quantizer  # type: ignore[no-any-return]


def _specification(scheme: Any, bits: int, shape: tuple[int, ...], *, narrow: bool) -> Any:
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import PTQuantizerSpec

    return PTQuantizerSpec(
        num_bits=bits,
        mode=scheme,
        signedness_to_force=True if scheme == QuantizationScheme.SYMMETRIC else None,
        narrow_range=narrow,
        half_range=False,
        scale_shape=shape,
        logarithm_scale=False,
    )


def params_of(quantizer: Any, *, axis: int | None = None) -> QuantParams:
    """NNCF counts codes from its own lowest level; int8 counts from -128 (asymmetric) or around 0 (symmetric).

    More than 8 bits are always symmetric: NNCF 3.4 passes their zero point through int8, and tells -1.
    """
    lowest, _, scale, zero_point = quantizer.get_parameters_for_torch_fq()
    is_wide = quantizer.num_bits > _INT8_BITS
    symmetric = axis is not None or quantizer.num_bits != _INT8_BITS  # tables of four bits are symmetric, too
    return QuantParams(
        scale=tuple(float(value) for value in scale.flatten()),
        zero_point=tuple(0 if symmetric else int(value) - lowest + _INT8_LOWEST for value in zero_point.flatten()),
        dtype="int16" if is_wide else "int8",
        axis=axis if scale.numel() > 1 else None,
    )
