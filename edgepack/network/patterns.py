"""Patterns of zeros that kernels can use: N of each M weights, or whole blocks. (No torch at import: a plan reads it.)

A pattern lies in the matrix that a kernel multiplies by, for each place of a convolution's window: output channels × input channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

UNSTRUCTURED = "unstructured"
GROUP_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class NofM:
    """N of each M weights that follow one another along the input channels may be other than zero (Mishra et al. 2021, arXiv:2104.08378)."""

    kept: int
    group: int

    @property
    def tile(self) -> tuple[int, int]:
        """Output × input channels of what is judged together."""
        return 1, self.group

    @property
    def zeros(self) -> float:
        """The share of zeros that the pattern makes, whatever else is wished."""
        return 1 - self.kept / self.group


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Blocks of output × input channels are zero as a whole, or not at all (Gray et al. 2017, "GPU kernels for block-sparse weights")."""

    outputs: int
    inputs: int

    @property
    def tile(self) -> tuple[int, int]:
        """Output × input channels of what is judged together."""
        return self.outputs, self.inputs


Pattern = NofM | Blocks


def parse_pattern(text: str) -> Pattern | None:
    """`2:4`, `4x1` and the like; None for `unstructured`. Raises ValueError for anything else."""
    if text == UNSTRUCTURED:
        return None
    if found := re.fullmatch(r"(\d+):(\d+)", text):
        kept, group = map(int, found.groups())
        if not 0 < kept < group <= GROUP_MAX:
            raise ValueError(f"'{text}': N of M needs 0 < N < M ≤ {GROUP_MAX}, such as '2:4'")
        return NofM(kept=kept, group=group)
    if found := re.fullmatch(r"(\d+)x(\d+)", text):
        outputs, inputs = map(int, found.groups())
        if not (outputs * inputs > 1 and min(outputs, inputs) >= 1 and max(outputs, inputs) <= GROUP_MAX):
            raise ValueError(
                f"'{text}': a block has 1 to {GROUP_MAX} output and input channels, and more than one weight, such as '4x1'"
            )
        return Blocks(outputs=outputs, inputs=inputs)
    raise ValueError(f"'{text}': give 'unstructured', N of M as '2:4', or blocks of outputs × inputs as '4x1'")


def why_not(pattern: Pattern, shape: tuple[int, ...], kind: str, *, groups: int = 1) -> str:
    """Why a weight of this shape, of an operation of this kind (`conv2d`, `linear`), can't have the pattern; '' where it can."""
    outputs, inputs = _channels(shape, kind)
    high, wide = pattern.tile
    if groups > 1 and kind.startswith("conv_transpose"):
        return "it is a grouped transposed convolution"
    if inputs % wide:
        return f"its input channels ({inputs}{' in each group' if groups > 1 else ''}) are no multiple of {wide}"
    if outputs // groups % high:
        return f"its output channels ({outputs // groups}{' in each group' if groups > 1 else ''}) are no multiple of {high}"
    return ""


def tiles_of(weight: torch.Tensor, pattern: Pattern, kind: str) -> torch.Tensor:
    """The weight as (tiles, weights of a tile); each tile's weights are those that the pattern judges together."""
    matrix = _outputs_inputs_window(weight, kind)
    outputs, inputs, window = matrix.shape
    high, wide = pattern.tile
    split = matrix.reshape(outputs // high, high, inputs // wide, wide, window)
    tiles: torch.Tensor = split.permute(0, 2, 4, 1, 3).reshape(-1, high * wide)
    return tiles


def from_tiles(tiles: torch.Tensor, shape: tuple[int, ...], pattern: Pattern, kind: str) -> torch.Tensor:
    """What `tiles_of` took apart, in the weight's own shape."""
    import torch

    outputs, inputs = _channels(shape, kind)
    high, wide = pattern.tile
    split = tiles.reshape(outputs // high, inputs // wide, -1, high, wide).permute(0, 3, 1, 4, 2)
    matrix = split.reshape(outputs, inputs, -1)
    return torch.reshape(matrix.transpose(0, 1) if kind.startswith("conv_transpose") else matrix, shape)


def masks_at(
    weights: Mapping[str, torch.Tensor], kinds: Mapping[str, str], pattern: Pattern, share: float, *, across: bool
) -> dict[str, torch.Tensor]:
    """Which weights stay, by name, when this share of the tiles has the pattern: those that lose least by it, compared `across` layers or in each."""
    import torch

    tiles = {name: tiles_of(weight.detach().abs(), pattern, kinds[name]) for name, weight in weights.items()}
    lost = {name: _lost(one, pattern) / weights[name].detach().norm().clamp_min(1e-12) for name, one in tiles.items()}
    limits = _limits(lost, share, across=across)
    masks = {}
    for name, one in tiles.items():
        order = torch.argsort(lost[name], stable=True)
        has = torch.zeros(len(one), dtype=torch.bool)
        has[order[: limits[name]]] = True
        masks[name] = from_tiles(~has[:, None] | _kept(one, pattern), tuple(weights[name].shape), pattern, kinds[name])
    return masks


def _kept(tiles: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Which weights of each tile the pattern leaves."""
    import torch

    kept = torch.zeros(tiles.shape, dtype=torch.bool)
    if isinstance(pattern, NofM):
        largest = torch.argsort(tiles, dim=1, descending=True, stable=True)[:, : pattern.kept]
        kept.scatter_(1, largest, torch.ones_like(largest, dtype=torch.bool))
    return kept


def _lost(tiles: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """The norm of what each tile loses to the pattern."""
    lost: torch.Tensor = (tiles * ~_kept(tiles, pattern)).norm(dim=1)
    return lost


def _limits(lost: Mapping[str, torch.Tensor], share: float, *, across: bool) -> dict[str, int]:
    """How many tiles of each layer have the pattern."""
    import torch

    if not across:
        return {name: round(share * len(one)) for name, one in lost.items()}
    every = torch.cat(list(lost.values()))
    cheapest = torch.argsort(every, stable=True)[: round(share * len(every))]
    chosen = torch.zeros(len(every), dtype=torch.bool)
    chosen[cheapest] = True
    counts = [int(part.sum()) for part in torch.split(chosen, [len(one) for one in lost.values()])]
    return dict(zip(lost, counts, strict=True))


def _outputs_inputs_window(weight: torch.Tensor, kind: str) -> torch.Tensor:
    turned: torch.Tensor = weight.transpose(0, 1) if kind.startswith("conv_transpose") else weight
    return turned.reshape(turned.shape[0], turned.shape[1], -1)


def _channels(shape: tuple[int, ...], kind: str) -> tuple[int, int]:
    """Output and input channels, the latter of one group. A transposed convolution has its input channels first."""
    first, second = shape[:2]
    return (second, first) if kind.startswith("conv_transpose") else (first, second)
