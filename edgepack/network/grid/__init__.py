"""The quantization grid of a network: which tensors have one, which must share one, and what training made of it.

NNCF decides where quantizers help an Intel CPU. A target whose kernels compute in integers throughout needs more: every
tensor that survives into the graph has a grid, operators that only move values keep the grid of their input, some share one
among all inputs and outputs, and a few have theirs built in. `complete_grid` adds, merges and pins quantizers until that holds,
so that what is trained is what the device will compute. The rules come from the target (`NumericConstraints`).
"""

from edgepack.core.types import Grid
from edgepack.network.grid.complete import complete_grid, keep_zero_exact
from edgepack.network.grid.learned import activation_points, baked_state, made_up_grid, output_grids, read_grid
from edgepack.network.grid.operations import Op, trace
from edgepack.network.grid.rules import Constraints, grid_points
from edgepack.network.grid.tables import narrow_tables

__all__ = [
    "Constraints",
    "Grid",
    "Op",
    "activation_points",
    "baked_state",
    "complete_grid",
    "grid_points",
    "keep_zero_exact",
    "made_up_grid",
    "narrow_tables",
    "output_grids",
    "read_grid",
    "trace",
]
