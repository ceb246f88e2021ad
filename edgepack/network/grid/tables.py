"""Embedding tables of four bits: the grid of what is looked up gets 16 steps, and the table is rounded to it."""

from __future__ import annotations

import torch
from torch import nn

from edgepack.core.errors import UnsupportedError
from edgepack.network.grid.hooks import Hooks, activation_quantizer
from edgepack.network.grid.operations import Op
from edgepack.network.grid.rules import MOVES_VALUES_ONLY, Constraints, groups_of

TABLE_BITS = 4
_CLIPS = tuple(step / 20 for step in range(6, 21))  # shares of the largest value that the first range may cover


def narrow_tables(network: nn.Module, ops: dict[str, Op], constraints: Constraints) -> frozenset[str]:
    """Give every lookup in a network with a complete grid a symmetric one of 16 steps (codes -8 … 7). Answers the tables' parameter names.

    The first range is the one that rounds the table with the least squared error; training may move it. Raises UnsupportedError, naming the place, where
    what is looked up must share its grid with something that is computed.
    """
    hooks = Hooks(network)
    quantizers: dict[str, nn.Module] = {}
    for members in groups_of(ops, constraints):
        lookups = [name for name in members if ops[name].table is not None]
        makers = [name for name in members if ops[name].kind not in MOVES_VALUES_ONLY and ops[name].table is None]
        makers = [name for name in makers if ops[name].kind not in constraints.same_grid_ops or "avg" in ops[name].kind]
        if lookups and makers:
            raise UnsupportedError(
                f"{lookups[0]}: what is looked up shares its grid with {makers[0]}, for which 16 steps are too few; leave tables_bits = 4 out"
            )
        for name in lookups:
            table = str(ops[name].table)
            if table not in quantizers:
                quantizers[table] = _quantizer_of(network.get_parameter(table))
        for name in members if lookups else ():
            if hooks.quantizer_after(name) is not None:
                hooks.clear_after(name)
                hooks.place_after(name, quantizers[str(ops[lookups[0]].table)])
    return frozenset(quantizers)


def table_quantizers(network: nn.Module, ops: dict[str, Op]) -> dict[str, nn.Module]:
    """The quantizer of each table of four bits, by parameter name."""
    hooks, found = Hooks(network), {}
    for op in ops.values():
        quantizer = hooks.quantizer_after(op.name) if op.table is not None else None
        if op.table is not None and quantizer is not None and quantizer.num_bits == TABLE_BITS:
            found[op.table] = quantizer
    return found


def _quantizer_of(table: torch.Tensor) -> nn.Module:
    values = table.detach()
    largest = float(values.abs().max())
    made = [activation_quantizer((-clip * largest, clip * largest), bits=TABLE_BITS, symmetric=True) for clip in _CLIPS]
    with torch.no_grad():
        errors = [float((quantizer(values) - values).square().mean()) for quantizer in made]
    return made[errors.index(min(errors))]
