"""Forwards of many samples, side by side: each stops at the same layer until all have been there.

What a layer gets can then be gathered over all samples, and the layer changed before they go on, while only what is alive at that layer is in memory. A forward that stops is a
greenlet: a stack of its own, in the same thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
from greenlet import getcurrent, greenlet
from torch import nn

Batch = tuple[torch.Tensor, ...]


class Forward:
    """A forward of `network` inside `stopping`, not begun yet; without gradients, but where it turns them on itself."""

    def __init__(self, network: nn.Module, inputs: Batch) -> None:
        self._run = greenlet(lambda: network(*inputs))
        self._has_gradients = False

    def at(self, name: str) -> torch.Tensor | None:
        """Goes on to the next layer that it stops at, and gives what this was asked for; None where that is another one than `name`, or there is none left."""
        found: Any = None if self._run.dead else self._go_on(self._run.switch)
        return found[1] if not self._run.dead and found[0] == name else None

    def end(self) -> None:
        """Leaves the forward where it is, whatever is left of it."""
        while not self._run.dead:  # a forward that catches everything comes to the next layer
            with suppress(Exception):  # what it makes of being left
                self._go_on(self._run.throw)

    def _go_on(self, how: Callable[[], Any]) -> Any:
        """Whether gradients are on is the thread's, so each forward has it set to its own while it runs."""
        outside = torch.is_grad_enabled()
        torch.set_grad_enabled(self._has_gradients)
        try:
            return how()
        finally:
            self._has_gradients = torch.is_grad_enabled()
            torch.set_grad_enabled(outside)


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


def widest(network: nn.Module, inputs: Batch) -> int:
    """How many values of one sample the widest layer gives."""
    found = [1]

    def note(_layer: nn.Module, _inputs: Batch, output: object) -> None:
        found.extend(
            one.numel() for one in (output if isinstance(output, tuple) else (output,)) if isinstance(one, torch.Tensor)
        )

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if not any(layer.children())]
    try:
        with torch.no_grad():
            network(*(tensor[:1] for tensor in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return max(found)


def _stop(name: str, value: torch.Tensor) -> None:
    outside = getcurrent().parent
    assert outside is not None  # a Forward always has one
    outside.switch((name, value))
