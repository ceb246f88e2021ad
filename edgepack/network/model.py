"""`Model`: a network in memory with what is known about it, and its way to disk and back between stages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgepack.core.errors import DataError, StageError
from edgepack.core.files import write_json
from edgepack.core.types import Array, Grid, Samples, Silent, TensorSpec
from edgepack.network.channels.sizes import with_shapes
from edgepack.network.low_rank.layers import with_factors
from edgepack.network.nncf_extension import ensure_extension
from edgepack.network.weight_grids import WeightGrid, load_grids, save_grids
from edgepack.recipe import NetworkSection

_STATE, _FACTS, _GRIDS = "state.safetensors", "model.json", "grids.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network in memory, its inputs and outputs, and its lineage.

    `build` makes a fresh float network of the same architecture; `network` is that network with trained values and,
    after a compression step, with NNCF's hooks. `frozen` names the hooks whose ranges no training may move. `pinned` is the grid of an older
    model that this one keeps to the last bit, as a file states it: weights' scales are those after batch norm is folded in. `architecture` is that of a student
    that took the place of the user's model, None where it is the user's own. `edits` says what was
    done to its structure (see `network.channels` and `network.low_rank`): `factors` are the ranks of layers that became products, by name, and `shapes` the
    tensors' shapes, by name in the state dict, that are then others than the architecture's own: `build` makes them so. `levels` names the weights that have few levels, step × (-n … n), with n: `quantize` keeps them. `shared` names those among
    them whose values are a codebook's, with how many there are: no training moves them. `int4` names the weights whose codes are -7 … 7 and take four bits in a file. `weight_grids` are the codes of
    weights of few bits in a network that computes in float.
    `lineage` is a tuple of facts about each step so far.
    """

    network: nn.Module
    build: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    frozen: frozenset[str] = frozenset()
    pinned: Grid | None = None
    architecture: NetworkSection | None = None
    edits: tuple[dict[str, Any], ...] = ()
    levels: Mapping[str, int] = field(default_factory=dict)
    shared: Mapping[str, int] = field(default_factory=dict)
    int4: frozenset[str] = frozenset()
    weight_grids: Mapping[str, WeightGrid] = field(default_factory=dict)
    factors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lineage: tuple[dict[str, Any], ...] = ()

    def example(self, batch: int = 1) -> tuple[torch.Tensor, ...]:
        """Zeros of the inputs' shapes and types, for tracing."""
        return tuple(torch.zeros(batch, *spec.shape[1:], dtype=getattr(torch, spec.dtype)) for spec in self.inputs)

    def with_step(self, **facts: Any) -> Model:
        """The same model with one more line in its lineage."""
        return replace(self, lineage=(*self.lineage, facts))


def as_tensors(model: Model, samples: Samples) -> tuple[torch.Tensor, ...]:
    """The samples of a batch as tensors, in the order of `forward`."""
    return tuple(torch.from_numpy(np.ascontiguousarray(samples.inputs[spec.name])) for spec in model.inputs)


def predict(model: Model, samples: Samples, *, batch_size: int = 32) -> dict[str, Array]:
    """The network's outputs for all samples in evaluation mode: name → array of shape (N, …), float32."""
    model.network.eval()
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.inference_mode(), lookups_told():
        parts.extend(flat_outputs(model.network(*as_tensors(model, batch))) for batch in samples.batches(batch_size))
    return {spec.name: torch.cat([part[index] for part in parts]).numpy() for index, spec in enumerate(model.outputs)}


@contextmanager
def lookups_told() -> Iterator[None]:
    """Turn a look-up behind the end of a table into the DataError that it is."""
    try:
        yield
    except IndexError as exc:
        raise DataError(
            f"a sample holds an index that no row of the model's table has ({exc}); correct the samples' ids, or use the model that they were made for"
        ) from exc


def output_steps(model: Model) -> dict[str, float | None]:
    """The step of each output's grid, by output name; None where an output has none. Of 65,536 steps 256 count as one, as limits are those of 8 bits."""
    from edgepack.network.grid import output_grids, trace

    if not is_hooked(model.network):
        return {spec.name: None for spec in model.outputs}
    grids = output_grids(model.network, trace(model.build().eval(), model.example()))
    if len(grids) != len(model.outputs):
        return {spec.name: None for spec in model.outputs}
    return {
        spec.name: None if params is None else params.step * (256 if params.dtype == "int16" else 1)
        for spec, params in zip(model.outputs, grids, strict=True)
    }


def flat_outputs(value: Any) -> tuple[torch.Tensor, ...]:
    """What a forward returned, as a flat tuple of tensors. Raises StageError for anything that is not tensors."""
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return tuple(tensor for part in value for tensor in flat_outputs(part))
    raise StageError(
        f"the model's forward returned a {type(value).__name__}; return a tensor, or a tuple or dict of tensors"
    )


def save_model(model: Model, folder: Path) -> None:
    """Write the network's values and hooks; the same values give the same bytes."""
    from nncf.torch import get_config

    state = {name: value.detach().clone().contiguous() for name, value in model.network.state_dict().items()}
    save_file(state, folder / _STATE)
    if model.weight_grids:
        save_grids(model.weight_grids, folder / _GRIDS)
    write_json(
        folder / _FACTS,
        {
            "hooks": get_config(model.network) if is_hooked(model.network) else None,
            "inputs": [asdict(spec) for spec in model.inputs],
            "outputs": [asdict(spec) for spec in model.outputs],
            "frozen": sorted(model.frozen),
            "pinned": None if model.pinned is None else model.pinned.as_dict(),
            "architecture": None if model.architecture is None else model.architecture.model_dump(mode="json"),
            "edits": list(model.edits),
            "levels": dict(model.levels),
            "shared": dict(model.shared),
            "int4": sorted(model.int4),
            "factors": {name: list(ranks) for name, ranks in model.factors.items()},
            "shapes": {name: list(shape) for name, shape in model.shapes.items()},
            "lineage": list(model.lineage),
        },
    )


def architecture_of(folder: Path) -> NetworkSection | None:
    """The student of which `save_model` wrote the values here; None for the user's own model."""
    told = json.loads((folder / _FACTS).read_text())["architecture"]
    return None if told is None else NetworkSection.model_validate(told)


def load_model(build: Callable[[], nn.Module], folder: Path) -> Model:
    """Read what `save_model` wrote into a fresh network; `build` makes those of the folder's `architecture_of`."""
    from nncf.torch import load_from_config

    facts = json.loads((folder / _FACTS).read_text())
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    factors = {name: tuple(ranks) for name, ranks in facts["factors"].items()}
    build = with_shapes(with_factors(build, factors), shapes)
    network = build().eval()
    if facts["hooks"] is not None:
        ensure_extension(Silent())
        network = load_from_config(network, facts["hooks"])
    network.load_state_dict(load_file(folder / _STATE))
    model = Model(
        network=network.eval(),
        build=build,
        inputs=tuple(_spec(item) for item in facts["inputs"]),
        outputs=tuple(_spec(item) for item in facts["outputs"]),
        frozen=frozenset(facts["frozen"]),
        pinned=None if facts["pinned"] is None else Grid.from_dict(facts["pinned"]),
        architecture=architecture_of(folder),
        edits=tuple(facts["edits"]),
        levels=facts["levels"],
        shared=facts["shared"],
        int4=frozenset(facts["int4"]),
        weight_grids=load_grids(folder / _GRIDS) if (folder / _GRIDS).exists() else {},
        factors=factors,
        shapes=shapes,
        lineage=tuple(facts["lineage"]),
    )
    freeze(model)
    return model


def is_hooked(network: nn.Module) -> bool:
    """Whether NNCF has put hooks into this network."""
    return hasattr(network, "__nncf_hooks")


def float_network(model: Model) -> nn.Module:
    """A fresh float network with the model's values; `model` must have no hooks."""
    network = model.build().eval()
    network.load_state_dict(model.network.state_dict())
    return network


def freeze(model: Model) -> None:
    """Keep the ranges of the frozen hooks out of any training."""
    from nncf.torch.function_hook.wrapper import get_hook_storage

    if not model.frozen:
        return
    for name, hook in get_hook_storage(model.network).named_hooks(remove_duplicate=False):
        if name in model.frozen:
            hook.requires_grad_(False)


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(name=item["name"], shape=tuple(item["shape"]), dtype=item["dtype"], layout=item["layout"])
