"""Rounding that knows what a layer's inputs look like: what one weight loses, the ones rounded after it make up for.

GPTQ (Frantar et al. 2022, arXiv:2210.17323): the squared error of a layer's outputs over samples is (w − q)ᵀ H (w − q) for each output channel, with H the
second moments of its inputs; columns are rounded one after the other, and each one's error is spread over those that are left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn

from edgepack.network.grid.hooks import Hooks
from edgepack.network.grid.operations import Op

_DAMPING = 0.01  # of the mean second moment, so that inputs that are always 0 have an inverse
_BLOCK = 64  # columns whose errors are spread over all later ones at once
_ROWS_MAX = 512  # of each sample: positions of an image are alike


class SecondMoments(nn.Module):
    """Sums x·xᵀ over the rows that pass, which stay as they are: positions of an image (N, C, …), or rows (…, C) of a linear layer's input."""

    def __init__(self, *, channels_first: bool) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.total: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.detach().flatten(2).transpose(1, 2) if self.channels_first else x.detach()
        rows = rows.reshape(-1, rows.shape[-1])
        rows = rows[:: max(1, rows.shape[0] // (_ROWS_MAX * x.shape[0]))].double()
        found = rows.T @ rows
        self.total = found if self.total is None else self.total + found
        return x


def second_moments(
    network: nn.Module, ops: dict[str, Op], names: Collection[str], batches: Iterable[tuple[torch.Tensor, ...]]
) -> dict[str, torch.Tensor]:
    """The second moments of the inputs of these weights' layers, (inputs, inputs) each, by parameter name; without layers that are no plain matrix product."""
    hooks, recorders, handles = Hooks(network), dict[str, SecondMoments](), []
    for op in ops.values():
        if op.weight in names and op.weight is not None and _is_matrix(op, network.get_parameter(op.weight)):
            recorder = recorders.setdefault(op.weight, SecondMoments(channels_first=op.kind != "linear"))
            handles.append(hooks.storage.register_pre_function_hook(op.name, 0, recorder))
    network.eval()
    with torch.no_grad():
        for batch in batches if recorders else ():
            network(*batch)
    for handle in handles:
        handle.remove()
    found = {name: recorder.total for name, recorder in recorders.items() if recorder.total is not None}
    return {name: total for name, total in found.items() if len(total) == network.get_parameter(name).shape[1]}


def round_by_second_moments(
    weight: torch.Tensor, step: torch.Tensor, moments: torch.Tensor, *, largest_code: int
) -> torch.Tensor:
    """The weight on its grid: `weight` is (outputs, inputs, …) with all further sizes 1, `step` divides it. Zeros stay zero."""
    columns = weight.detach().reshape(weight.shape[0], -1).double()
    steps = step.reshape(-1, 1).double().expand(columns.shape)
    codes = codes_by_second_moments(
        columns, steps, torch.zeros_like(steps), moments, lowest_code=-largest_code, largest_code=largest_code
    )
    return (codes * steps).reshape(weight.shape).to(weight.dtype)


def codes_by_second_moments(
    weight: torch.Tensor,
    step: torch.Tensor,
    zero_point: torch.Tensor,
    moments: torch.Tensor,
    *,
    lowest_code: int,
    largest_code: int,
) -> torch.Tensor:
    """The weight's codes: weight, step and zero point of each weight are float64 (outputs, inputs), and so are the codes. Zeros stay zero."""
    # Columns with the largest inputs first: their errors cost most, and then many are left to make up for them.
    order = moments.diagonal().argsort(descending=True)
    columns, steps, offsets = (each[:, order] for each in (weight, step, zero_point))
    inverse = _inverse_factor(moments[order][:, order])
    pruned = columns == 0
    codes, errors = torch.zeros_like(columns), torch.zeros_like(columns)
    for start in range(0, columns.shape[1], _BLOCK):
        end = min(start + _BLOCK, columns.shape[1])
        for index in range(start, end):
            offset = offsets[:, index]
            code = (columns[:, index] / steps[:, index] + offset).round().clamp(lowest_code, largest_code)
            codes[:, index] = torch.where(pruned[:, index], offset, code)
            rounded = (codes[:, index] - offset) * steps[:, index]
            errors[:, index] = (columns[:, index] - rounded) / inverse[index, index]
            columns[:, index:end] -= errors[:, index : index + 1] * inverse[index, index:end]
        columns[:, end:] -= errors[:, start:end] @ inverse[start:end, end:]
    return codes[:, order.argsort()]


def _inverse_factor(moments: torch.Tensor) -> torch.Tensor:
    """U of H⁻¹ = Uᵀ U, H being the moments with their damping."""
    damping = _DAMPING * moments.diagonal().mean().clamp_min(1e-12)
    damped = moments + torch.eye(len(moments), dtype=torch.float64) * damping
    factor: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return factor


def _is_matrix(op: Op, weight: torch.Tensor) -> bool:
    return op.kind == "linear" or (op.kind in ("conv1d", "conv2d") and all(size == 1 for size in weight.shape[2:]))
