"""A program of `torch.export` as a network that can be trained, hooked by NNCF, and taken by every exporter.

What reaches edgepack as a file (.pt2, ONNX, Keras) is a graph of aten operations. NNCF traces torch functions, and quantization wants
layers whose weights are parameters. So the graph is cleaned up: what computes nothing goes, what depends on no input is computed now,
permutes that only lead from one layout to another and back cancel, decomposed layers are put together again, and each
operation becomes the function, and each layer the module, that a user would have written.
"""

from __future__ import annotations

import torch
from torch import nn

from edgepack.network.imported.assemble import assemble
from edgepack.network.imported.clean import drop_idle, fold_constants, plain_numbers
from edgepack.network.imported.draft import Draft
from edgepack.network.imported.layers import fold_affine, recompose
from edgepack.network.imported.layout import raise_permutes, settle_permutes, sink_permutes
from edgepack.network.imported.recognize import recognize

_ROUNDS = 3  # one is enough for all but a few; each makes room for the next


def module_of(program: torch.export.ExportedProgram) -> nn.Module:
    """The program's network in evaluation mode. The same program gives the same network, name by name.

    Inputs are taken in the program's order, all positional; outputs are a tensor, or a flat tuple of tensors.
    Raises SourceError for a program in training mode or one that changes its own state, and UnsupportedError, naming the place, for
    an operation that no torch function computes.
    """
    draft = Draft(program.run_decompositions({}))
    for _ in range(_ROUNDS):
        drop_idle(draft)
        fold_constants(draft)
        plain_numbers(draft)
        recompose(draft)
        recognize(draft)
        sink_permutes(draft)
        fold_affine(draft)
    raise_permutes(draft)
    fold_affine(draft)
    settle_permutes(draft)
    drop_idle(draft)
    draft.graph.lint()
    return assemble(draft)
