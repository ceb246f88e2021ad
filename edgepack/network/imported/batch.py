"""A program that takes any number of samples at once, from one that was exported for a single sample.

Files hold programs for a batch of 1 as often as for any batch, and training, calibration and evaluation want more. What fixes the batch are
the target shapes of reshapes; where the batch went in them follows from the order of elements in memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import fx, nn

from edgepack.core.errors import EdgepackError, SourceError
from edgepack.core.said import first_line

aten = torch.ops.aten
_ATTEMPTS = 32
EXAMPLE_BATCH = 11  # a size that no other dimension is likely to have
_RESHAPES = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}


def with_any_batch(
    program: torch.export.ExportedProgram, shapes: Sequence[tuple[int, ...]], *, where: str
) -> torch.export.ExportedProgram:
    """The program for inputs of these shapes (without the batch dimension) and any batch.

    Itself where it is so already. `where` names the file in messages. Raises SourceError where samples can't be told apart.
    """
    values = [node.meta["val"] for node in _user_inputs(program)]
    symbolic = all(not isinstance(value.shape[0], int) for value in values)
    if symbolic and all(tuple(value.shape[1:]) == shape for value, shape in zip(values, shapes, strict=True)):
        return program
    for value in values:
        if isinstance(value.shape[0], int) and value.shape[0] != 1:
            raise SourceError(
                f"{where}: made for exactly {value.shape[0]} samples at once; export it for 1, or for any number (a dynamic first dimension)"
            )
    examples = tuple(
        torch.zeros(EXAMPLE_BATCH, *shape, dtype=value.dtype) for shape, value in zip(shapes, values, strict=True)
    )
    return tried(lambda choices: export_any_batch(_Batched(program, choices), examples, where=where))


T = TypeVar("T")


class Choices:
    """Where the batch goes in reshapes that leave several places open; each kind of reshape is decided once."""

    def __init__(self) -> None:
        self.made: dict[Any, int] = {}
        self.counts: dict[Any, int] = {}

    def __call__(self, pattern: Any, options: Sequence[int]) -> int:
        self.counts[pattern] = len(options)
        return options[self.made.setdefault(pattern, 0)]

    def vary(self) -> bool:
        """Decide the last one anew that can be; False when all were tried."""
        while self.made:
            pattern, choice = self.made.popitem()
            if choice + 1 < self.counts[pattern]:
                self.made[pattern] = choice + 1
                return True
        return False


def tried(attempt: Callable[[Choices], T]) -> T:
    """The first attempt that succeeds over all choices. Raises the first attempt's SourceError."""
    choices = Choices()
    first: SourceError | None = None
    for _ in range(_ATTEMPTS):
        try:
            return attempt(choices)
        except SourceError as exc:
            first = first or exc
            if not choices.vary():
                break
    assert first is not None
    raise first


def export_any_batch(
    network: nn.Module, examples: tuple[torch.Tensor, ...], *, where: str
) -> torch.export.ExportedProgram:
    """`torch.export` of a network in evaluation mode, with the first dimension of every input open. Raises SourceError with torch's reason."""
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in examples)
    try:
        with torch.no_grad():
            return torch.export.export(
                network, examples, dynamic_shapes=(dynamic,) if _is_variadic(network) else dynamic
            )
    except EdgepackError:
        raise
    except Exception as exc:
        raise SourceError(
            f"{where}: can't be run on several samples at once ({first_line(exc)}); export it with a dynamic first dimension, "
            "and keep samples apart in the model"
        ) from exc


def reshaped(shape: Sequence[Any], wanted: Sequence[Any], choose: Choices) -> list[Any]:
    """A reshape's target for any batch, from that for a batch of 1: the size at the place of the batch is multiplied.

    `shape` is that of the source, with a symbolic batch; both list sizes from the slowest to the fastest dimension, so the batch is where
    the same number of elements lies before it. Where that leaves several places, `choose` says which.
    """
    at = next((index for index, size in enumerate(shape) if not isinstance(size, int)), None)
    if at is None or any(not isinstance(size, int) for size in wanted):
        return list(wanted)
    single = [_for_one_sample(size) for size in shape]
    if -1 in wanted:  # what is left for a batch of 1
        rest = max(-_product(wanted), 1)
        wanted = [_product(single) // rest if size == -1 else size for size in wanted]
    options = _places(single, at, list(wanted))
    if _product(single) != _product(wanted) or not options:
        return list(wanted)
    place = options[0] if len(options) == 1 else choose((*single, at, *wanted), options)
    batch = shape[at] // single[at]
    return [size * batch if index == place else size for index, size in enumerate(wanted)]


def _places(single: list[int], at: int, wanted: list[int]) -> list[int]:
    """The sizes of `wanted` that the batch may belong to, the likeliest first; `single[at]` is what has it now.

    It was before or behind the other factors of that size, and it ends one size of `wanted` or begins the next: a size of 1 is its own.
    """
    alone, merged = [], []
    for before in dict.fromkeys((_product(single[:at]), _product(single[: at + 1]))):
        found = [index for index in range(len(wanted)) if _product(wanted[:index]) == before]
        alone += [index for index in found if wanted[index] == 1]
        merged += [index for place in found[:1] for index in (place, place - 1) if index >= 0]
    return list(dict.fromkeys([*alone, *merged]))


def _for_one_sample(size: Any) -> int:
    """What a size is for a batch of 1: heads × batch → heads."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


class _Batched(nn.Module):
    """Runs a program for a batch of 1 on any batch."""

    def __init__(self, program: torch.export.ExportedProgram, choices: Choices) -> None:
        super().__init__()
        module = program.module(check_guards=False)
        assert isinstance(module, fx.GraphModule)
        for name, child in module.named_children():
            self.add_module(name, child)
        for name, parameter in module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in module.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):  # a constant in the code
                self.register_buffer(name, value, persistent=False)
        self._graph, self._choices = module.graph, choices

    def forward(self, *inputs: torch.Tensor) -> Any:
        return _Interpreter(self, self._graph, self._choices).run(*inputs)


class _Interpreter(fx.Interpreter):
    def __init__(self, network: nn.Module, graph: fx.Graph, choices: Choices) -> None:
        super().__init__(network, graph=graph)
        self.choices = choices

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in _RESHAPES:
            args = (args[0], reshaped(args[0].shape, args[1], self.choices))
            target = aten.reshape.default
        elif target is aten.expand.default:
            args = (args[0], expanded(args[0].shape, args[1]), *args[2:])
        elif target is aten.cat.default:
            args = (of_one_batch(args[0], args[1] if len(args) > 1 else 0), *args[1:])
        return super().call_function(target, args, kwargs)


def expanded(shape: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    """Sizes that were 1, and are the batch now, stay as they are."""
    offset = len(wanted) - len(shape)
    return [
        -1 if index >= offset and not isinstance(shape[index - offset], int) else size
        for index, size in enumerate(wanted)
    ]


def of_one_batch(tensors: Sequence[torch.Tensor], dim: int) -> list[torch.Tensor]:
    """What is the same for all samples (a class token) is repeated for each of them."""
    batch = next((tensor.shape[0] for tensor in tensors if not isinstance(tensor.shape[0], int)), None)
    if batch is None or dim % tensors[0].dim() == 0:
        return list(tensors)
    return [
        tensor.expand(batch, *tensor.shape[1:]) if isinstance(tensor.shape[0], int) and tensor.shape[0] == 1 else tensor
        for tensor in tensors
    ]


def _user_inputs(program: torch.export.ExportedProgram) -> list[fx.Node]:
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def _is_variadic(network: nn.Module) -> bool:
    """Whether forward takes `*inputs`, which torch.export counts as one argument."""
    parameters = inspect.signature(network.forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
