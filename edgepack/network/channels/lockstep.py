"""Forwards of many samples, side by side: each stops at the same layer until all have been there.

What a layer gets can then be gathered over all samples, and the layer changed before they go on, while only what is alive at that layer is in memory. A forward that stops is a
greenlet: a stack of its own, in the same thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from greenlet import getcurrent, greenlet
from torch import nn

Batch = tuple[torch.Tensor, ...]


class Forward:
    """A forward of `network` inside `stopping`, not begun yet."""

    def __init__(self, network: nn.Module, inputs: Batch) -> None:
        self._run = greenlet(lambda: network(*inputs))

    def at(self, name: str) -> torch.Tensor | None:
        """Goes on to the next layer that it stops at, and gives what this was asked for; None where that is another one than `name`, or there is none left."""
        found: Any = None if self._run.dead else self._run.switch()
        return found[1] if not self._run.dead and found[0] == name else None

    def end(self) -> None:
        """Leaves the forward where it is, whatever is left of it."""
        if not self._run.dead:
            self._run.throw()


@contextmanager
def stopping(network: nn.Module, names: Sequence[str], *, gives: Literal["inputs", "outputs"]) -> Iterator[None]:
    """Inside, every `Forward` of the network stops before these layers with their input, or after them with their output."""

    def stop(name: str) -> Any:
        def before(_layer: nn.Module, inputs: Batch) -> None:
            _stop(name, inputs[0])

        def after(_layer: nn.Module, _inputs: Batch, output: torch.Tensor) -> None:
            _stop(name, output)

        return before if gives == "inputs" else after

    layers = [network.get_submodule(name) for name in names]
    add = nn.Module.register_forward_pre_hook if gives == "inputs" else nn.Module.register_forward_hook
    hooks = [add(layer, stop(name)) for layer, name in zip(layers, names, strict=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _stop(name: str, value: torch.Tensor) -> None:
    outside = getcurrent().parent
    assert outside is not None  # a Forward always has one
    outside.switch((name, value))
