"""The float model that a build began with, from its work folder, layer beside layer with the model that ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.explain.account import Original
from edgepack.explain.graph import Graph, graph_of
from edgepack.explain.layers import GraphLayer, layers_of
from edgepack.explain.names import names_of
from edgepack.explain.weights import Weight, change_sqnr_db, histogram, read_weight
from edgepack.opened import float_artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalModel:
    """The original's layers by the names of the layers that they have become."""

    graph: Graph
    layers: Mapping[str, GraphLayer]

    def layer(self, name: str, today: Sequence[Weight]) -> Original | None:
        """What the layer was, and how far its weights have moved; None for a layer that the original has not."""
        layer = self.layers.get(name)
        if layer is None:
            return None
        weights, biases = (self._read(layer, role) for role in ("weight", "bias"))
        return Original(
            parameters=sum(one.codes.size for one in (*weights, *biases)),
            macs=layer.macs,
            change_sqnr_db=change_sqnr_db(weights, today),
            histogram=histogram(weights),
        )

    def _read(self, layer: GraphLayer, role: str) -> list[Weight]:
        places = [part.constant for part in layer.parts if part.role == role]
        return [read_weight(self.graph.files[one.file], one.found, None) for one in places]


def original_of(
    bundle: Bundle, variant: Variant, work_folder: Path, names: Sequence[str], layers: Sequence[GraphLayer]
) -> tuple[OriginalModel | None, str | None]:
    """The original with its layers paired, or why it can't be had."""
    artifact = float_artifact(bundle, work_folder=work_folder, variant=variant) if work_folder.is_dir() else None
    if artifact is None:
        return None, f"the float model is not in the build's work folder ({work_folder.name}); name it with --work-dir"
    paths = (artifact.path, *artifact.companions)
    graph = graph_of(artifact.path.name, {one.name: one.read_bytes() for one in paths})
    theirs, _ = layers_of(graph)
    pairs = _paired(names, layers, names_of(theirs, {}), theirs)
    if pairs is None:
        return None, "the original's layers can't be told apart: it has other layers than this model, by other names"
    return OriginalModel(graph=graph, layers=pairs), None


def _paired(
    names: Sequence[str], layers: Sequence[GraphLayer], their_names: Sequence[str], theirs: Sequence[GraphLayer]
) -> dict[str, GraphLayer] | None:
    """By name where the original has all the names, else by order where both have the same kinds of layers in the same order."""
    by_name = dict(zip(their_names, theirs, strict=True))
    if all(name in by_name for name in names):
        return {name: by_name[name] for name in names}
    if [one.node.kind for one in layers] == [one.node.kind for one in theirs]:
        return dict(zip(names, theirs, strict=True))
    return None
