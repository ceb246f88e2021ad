"""A model whose layers become products: which may, at which ranks, and the model that comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgepack.network.channels.narrowing import alike
from edgepack.network.channels.work import macs_of, parameters_of, uses_of
from edgepack.network.low_rank.layers import Ranks, factored, kind_of, taps_of, with_factors
from edgepack.network.low_rank.spectra import Measure, Spectrum, positions_of, spectrum_of
from edgepack.network.model import Model, flat_outputs, float_network


class Factoring:
    """A model without hooks and the layers of it that may become products (`spectra`, by name). `left_alone` says of every other one why it may not."""

    def __init__(
        self, model: Model, inputs: tuple[torch.Tensor, ...], *, only: Collection[str], ignore: Collection[str]
    ) -> None:
        self.model = model
        self.left_alone: dict[str, str] = {}
        self.spectra: dict[str, Spectrum] = {}
        network = float_network(model)
        positions = positions_of(network, model.example())
        for name, layer in weighted_layers(network):
            because = (
                "the recipe says so"
                if name in ignore or (only and name not in only)
                else _obstacle(network, name, layer, model.factors, positions)
            )
            if because or (because := _unsound(network, name, inputs)):
                self.left_alone[name] = because
            else:
                made, read = positions[name]
                self.spectra[name] = spectrum_of(name, layer, made=made, read=read)

    def cost(self, measure: Measure, model: Model | None = None) -> int:
        """Multiply-accumulates of one inference, or parameters, of the model or of what has become of it."""
        network = (model or self.model).network
        state = network.state_dict()
        if measure == "macs":
            return macs_of(state, uses_of(network, self.model.example()))
        return parameters_of(state, frozenset(name for name, _ in network.named_parameters()))

    def result(self, ranks: Ranks) -> Model:
        """The model with these layers as products; a layer's values move into its factors."""
        state: dict[str, torch.Tensor] = dict(self.model.network.state_dict())
        resized = dict(self.model.shapes)
        for name, own in ranks.items():
            old = [key for key in state if key.startswith(f"{name}.")]
            new = {f"{name}.{key}": value for key, value in factored(self._layer(name), own).state_dict().items()}
            if any(key in resized for key in old):  # `build` has it with all its channels
                resized |= {key: tuple(value.shape) for key, value in new.items()}
            for key in old:
                del state[key]
                resized.pop(key, None)
            state |= new
            resized = {key: shape for key, shape in resized.items() if key in state}
        build = with_factors(self.model.build, ranks)
        network = build().eval()
        network.load_state_dict(state)
        factors = {**self.model.factors, **ranks}
        return replace(self.model, network=network, build=build, factors=factors, shapes=resized)

    def _layer(self, name: str) -> nn.Module:
        return self.model.network.get_submodule(name)


def weighted_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers of every kind, by name."""
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            yield name, layer


def _obstacle(
    network: nn.Module, name: str, layer: Any, factors: Mapping[str, Sequence[int]], positions: Mapping[str, Any]
) -> str:
    """Why a layer can't become a product, as far as its kind says; '' where nothing speaks against it."""
    if not name:
        return "it is the whole model"
    if any(name.startswith(f"{other}.") for other in factors):
        return "it is a factor already"
    if kind_of(layer) is None:
        return f"no factors are known for a {type(layer).__name__}"
    if getattr(layer, "groups", 1) != 1:
        return "it divides its channels in groups"
    if getattr(layer, "parametrizations", None) is not None:
        return "its weight is computed from others"
    modules = Counter(id(one) for _, one in network.named_modules(remove_duplicate=False))
    weights = Counter(id(one) for _, one in network.named_parameters(remove_duplicate=False))
    if modules[id(layer)] > 1 or weights[id(layer.weight)] > 1:
        return "several places share its weight"
    return "" if name in positions else "forward doesn't call it"


def _unsound(network: nn.Module, name: str, inputs: tuple[torch.Tensor, ...]) -> str:
    """Why the forward doesn't bear factors in this place; '' where with all ranks the outputs stay as they are."""
    layer: Any = network.get_submodule(name)
    outward, inward = layer.weight.shape[:2]
    full = (min(outward, inward),) if taps_of(layer) == 1 else (inward, outward)
    with torch.no_grad():
        wanted = flat_outputs(network(*inputs))
        network.set_submodule(name, factored(layer, full).eval())
        try:
            found = flat_outputs(network(*inputs))
        except Exception as exc:  # noqa: BLE001  # forward is the user's code: whatever it raises, it needs the layer itself
            return f"forward needs the layer itself: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}"
        finally:
            network.set_submodule(name, layer)
    return "" if alike(found, wanted) else "with factors that equal it the outputs change"
