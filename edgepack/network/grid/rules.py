"""Which operations' outputs have a grid, which share one, and which have theirs built in: the target's rules on a traced network."""

from __future__ import annotations

from typing import Protocol

from edgepack.core.errors import UnsupportedError
from edgepack.network.grid.operations import WEIGHTED, Op

_FUSES = {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "linear", "batch_norm", "add", "sub", "mul"}
MOVES_VALUES_ONLY = {"max_pool2d", "reshape", "view", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "slice",
                     "split", "chunk", "select", "expand", "contiguous", "clone", "detach", "dropout", "identity", "getitem", "pad"}  # fmt: skip


class Constraints(Protocol):
    """What is read here of a target's numeric constraints."""

    @property
    def weights_bits(self) -> int: ...
    @property
    def activations_bits(self) -> int: ...
    @property
    def activations_symmetric(self) -> bool: ...
    @property
    def fused_activations(self) -> tuple[str, ...]: ...
    @property
    def same_grid_ops(self) -> tuple[str, ...]: ...
    @property
    def one_grid_ops(self) -> tuple[str, ...]: ...
    @property
    def fixed_output_ranges(self) -> dict[str, tuple[float, float]]: ...


def grid_points(ops: dict[str, Op], constraints: Constraints) -> list[str]:
    """The operations whose outputs get a grid. Raises UnsupportedError where the target's rules contradict each other."""
    refuse_computed_weights(ops)
    groups = groups_of(ops, constraints)
    for members in groups:
        fixed_range(members, ops, constraints)
    return [name for members in groups for name in members if ops[name].kind not in MOVES_VALUES_ONLY]


def groups_of(ops: dict[str, Op], constraints: Constraints) -> list[tuple[str, ...]]:
    """Operations whose outputs share one grid (union-find), without those that are fused into their only consumer."""
    kept = [name for name, op in ops.items() if op.kind != "nncf_model_output" and not _is_fused(op, ops, constraints)]
    parent = {name: name for name in kept}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for name in kept:
        op = ops[name]
        same = _keeps_grid(op, constraints)
        if same or op.kind in constraints.one_grid_ops:
            for source in op.inputs[:1] if same else op.inputs:
                if source in parent:
                    parent[root(name)] = root(source)
    members: dict[str, list[str]] = {}
    for name in kept:
        members.setdefault(root(name), []).append(name)
    return [tuple(group) for group in members.values()]


def _keeps_grid(op: Op, constraints: Constraints) -> bool:
    if op.kind == "adaptive_avg_pool2d":  # to 1×1 it becomes MEAN, which has a grid of its own
        return any(size != 1 for size in op.output_shape[2:])
    return op.kind in constraints.same_grid_ops or op.kind == "getitem"


def _is_fused(op: Op, ops: dict[str, Op], constraints: Constraints) -> bool:
    """Whether the operation's output never exists on the device: batch norm or an activation is computed with it."""
    consumers = [ops[name] for name in op.consumers if name in ops]
    if len(op.consumers) != 1 or len(consumers) != 1:
        return False
    kind = consumers[0].kind
    return (op.kind in WEIGHTED and kind == "batch_norm") or (
        op.kind in _FUSES and kind in constraints.fused_activations
    )


def fixed_range(members: tuple[str, ...], ops: dict[str, Op], constraints: Constraints) -> tuple[float, float] | None:
    """The range that a kernel has built in for one of these operations, which share one grid; None where none has.

    Raises UnsupportedError where another of them needs a range of its own.
    """
    fixed = {
        name: constraints.fixed_output_ranges[ops[name].kind]
        for name in members
        if ops[name].kind in constraints.fixed_output_ranges
    }
    if not fixed:
        return None
    makers = [
        name
        for name in members
        if ops[name].kind not in MOVES_VALUES_ONLY and ops[name].kind not in constraints.same_grid_ops
    ]
    if len(set(fixed.values())) > 1 or any(
        name not in fixed for name in makers if ops[name].kind not in constraints.one_grid_ops
    ):
        raise UnsupportedError(
            f"{', '.join(members)}: these must share one grid, but {', '.join(fixed)} has its own built into the kernel; "
            "put another operation between them, or leave the concatenation out of the model"
        )
    return next(iter(fixed.values()))


def refuse_computed_weights(ops: dict[str, Op]) -> None:
    """Raises UnsupportedError, naming the place, for a weight that is no parameter."""
    for op in ops.values():
        if op.kind in WEIGHTED and op.weight is None:
            raise UnsupportedError(
                f"{op.name}: the weight of this {op.kind} is computed in forward, not a parameter; quantization needs a parameter"
            )
