"""A converted model on disk, for sources that read files: made once by `convert`, opened by later stages without the framework it came from."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from edgepack.core.chatter import chatter_to
from edgepack.core.digest import sha256_file
from edgepack.core.errors import SourceError, StageError
from edgepack.core.types import TensorSpec
from edgepack.network.imported import module_of
from edgepack.network.imported.batch import with_any_batch
from edgepack.network.model import Model, flat_outputs

_PROGRAM, _LOG = "program.pt2", "convert.log"
_RELATIVE_TOLERANCE = 1e-4  # float sums in another order; a wrong conversion is off by far more
_BATCH = 3


def convert(
    program: torch.export.ExportedProgram,
    folder: Path,
    *,
    inputs: tuple[TensorSpec, ...],
    outputs: Sequence[str] = (),
    where: str,
) -> Model:
    """The program as a Model with these inputs; what `network_builder` needs is left in `folder`.

    `program` takes a batch of 1 or any batch. `outputs` names its outputs in order (default: 'output', or 'output_0' and so on).
    `where` names the user's file in messages. Raises SourceError and UnsupportedError as `module_of` does, and SourceError for NaN or
    infinite weights or outputs, and integer outputs.
    """
    with chatter_to(folder / _LOG):
        program = with_any_batch(program, [spec.shape[1:] for spec in inputs], where=where)
        torch.export.save(program, folder / _PROGRAM)
        network = module_of(program)
    _refuse_nonfinite(network, where)
    _compare(program, network, inputs, where)
    template = _keep(folder / _PROGRAM, copy.deepcopy(network))
    return Model(
        network=network,
        build=lambda: copy.deepcopy(template),
        inputs=inputs,
        outputs=_output_specs(network, inputs, outputs, where),
    )


def network_builder(folder: Path) -> Callable[[], nn.Module]:
    """Makes fresh networks of the program that `convert` left in a folder."""
    file = folder / _PROGRAM
    template = _TEMPLATES.get(sha256_file(file))
    if template is None:
        with chatter_to(Path(os.devnull)):  # `convert` has kept the same words
            template = _keep(file, module_of(torch.export.load(file)))
    return lambda: copy.deepcopy(template)


# Networks of programs that this process has read, by digest: each stage of a build asks for the same one. Only the last is kept.
_TEMPLATES: dict[str, nn.Module] = {}


def _keep(file: Path, network: nn.Module) -> nn.Module:
    _TEMPLATES.clear()
    _TEMPLATES[sha256_file(file)] = network
    return network


def random_inputs(inputs: tuple[TensorSpec, ...], *, batch: int) -> tuple[torch.Tensor, ...]:
    """Values to try a network with: normal floats; for indices 0 and 1, which any table has."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, *spec.shape[1:], generator=generator)
        if spec.dtype == "float32"
        else torch.randint(0, 2, (batch, *spec.shape[1:]), generator=generator, dtype=getattr(torch, spec.dtype))
        for spec in inputs
    )


def _compare(
    program: torch.export.ExportedProgram, network: nn.Module, inputs: tuple[TensorSpec, ...], where: str
) -> None:
    """The network computes what the program computes, sample by sample as in a batch."""
    values = random_inputs(inputs, batch=_BATCH)
    runner = program.module(check_guards=False)
    with torch.no_grad():
        ours = flat_outputs(network(*values))
        alone = [flat_outputs(network(*(value[index : index + 1] for value in values))) for index in range(_BATCH)]
        theirs = flat_outputs(runner(*values))
    for index, (mine, wanted) in enumerate(zip(ours, theirs, strict=True)):
        tolerance = _RELATIVE_TOLERANCE * max(float(wanted.abs().max()), 1e-3)
        if mine.shape != wanted.shape or float((mine - wanted).abs().max()) > tolerance:
            raise StageError(f"{where}: output {index} of the converted network differs; please report this model")
        single = torch.cat([one[index] for one in alone])
        if single.shape != mine.shape or float((mine - single).abs().max()) > tolerance:
            raise SourceError(
                f"{where}: output {index} of a sample depends on the other samples of its batch; keep samples apart in the model"
            )


def _refuse_nonfinite(network: nn.Module, where: str) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise SourceError(
                f"{where}: '{name}' has {count} values that are NaN or infinite; the training diverged, use an earlier checkpoint"
            )


def _output_specs(
    network: nn.Module, inputs: tuple[TensorSpec, ...], names: Sequence[str], where: str
) -> tuple[TensorSpec, ...]:
    with torch.no_grad():
        outputs = flat_outputs(network(*random_inputs(inputs, batch=1)))
    for output in outputs:
        if not output.is_floating_point():
            raise SourceError(f"{where}: the model returns {output.dtype}; return the scores before argmax or rounding")
        if not bool(torch.isfinite(output).all()):
            raise SourceError(f"{where}: the model gives NaN or infinite outputs for small inputs; check the weights")
    if not names:
        names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    return tuple(TensorSpec(name=name, shape=tuple(output.shape)) for name, output in zip(names, outputs, strict=True))
