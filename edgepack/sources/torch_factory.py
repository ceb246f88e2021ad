"""A PyTorch model: a factory function in the user's code, and a state dict beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgepack.core.errors import RecipeError, SourceError
from edgepack.core.types import TensorSpec
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.factories.code import code_files, function_of, importable, module_file, where_raised
from edgepack.sources.factories.state_dict import fill, refuse_nonfinite, state_of, weights_file
from edgepack.sources.protocol import Abilities, input_spec

if TYPE_CHECKING:
    from torch import nn

    from edgepack.network.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFactory:
    """`factory = "module:function"` and `weights = "file"` of the recipe; `seed` is that of a fresh network's values."""

    abilities: ClassVar[Abilities] = Abilities()
    tools: ClassVar[tuple[str, ...]] = ()

    section: ModelSection
    folder: Path
    seed: int = 0

    def inputs(self) -> tuple[InputSection, ...]:
        """As the recipe says."""
        return self.section.inputs

    def files(self) -> tuple[Path, ...]:
        """The factory's module and the weights."""
        found = [module_file(self.folder, self._factory)]
        if self.section.weights is not None:
            found.append(weights_file(self.section.weights, self.folder))
        return tuple(found)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Build, load the weights, and run one forward of zeros to learn the outputs."""
        network = self._network()
        if self.section.weights is not None:
            state = state_of(weights_file(self.section.weights, self.folder), self.section.weights_key)
            fill(network, state, self.section.weights)
        refuse_nonfinite(network, self.section.weights or self._factory)
        model = self._model(network)
        return model, tuple(sorted(code_files(module_file(self.folder, self._factory))))

    def builder(self, folder: Path) -> Callable[[], nn.Module]:
        """Calls the factory."""
        return self._network

    @property
    def _factory(self) -> str:
        if self.section.factory is None:
            raise RecipeError("model.kind = \"torch_factory\" needs model.factory; leave out 'kind' for a model file")
        return self.section.factory

    def _model(self, network: nn.Module) -> Model:
        from edgepack.network.model import Model

        inputs = tuple(input_spec(item) for item in self.section.inputs)
        return Model(network=network, build=self._network, inputs=inputs, outputs=_output_specs(network, inputs))

    def _network(self) -> nn.Module:
        import torch

        name = self._factory
        with importable(self.folder, name):
            function = function_of(name)
            torch.manual_seed(self.seed)
            try:
                network = function(**self.section.args)
            except Exception as exc:
                raise SourceError(
                    f"model.factory: {name} raised {where_raised(exc)}; run it by hand to see more"
                ) from exc
        if not isinstance(network, torch.nn.Module):
            raise SourceError(f"model.factory: {name} returned a {type(network).__name__}, not a torch.nn.Module")
        return _without_implicit_forward(network).eval().requires_grad_(requires_grad=True).float()


def _without_implicit_forward(network: nn.Module) -> nn.Module:
    """The same children under the same names, where the network is a bare nn.Sequential.

    Its forward calls every child, and NNCF keeps its hooks in one more child that can't be called (nncf 3.4).
    """
    import torch

    if type(network).forward is not torch.nn.Sequential.forward:
        return network

    class Chain(torch.nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            for name in names:
                value = self._modules[name](value)  # type: ignore[misc]
            return value

    names = list(network._modules)
    chain = Chain()
    for name, module in network._modules.items():
        chain.add_module(name, module)
    return chain


def _output_specs(network: nn.Module, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Run zeros through the network. Raises SourceError when forward refuses the declared inputs."""
    import torch

    from edgepack.network.model import flat_outputs

    shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
    try:
        with torch.inference_mode():
            zeros = (torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
            outputs = flat_outputs(network(*zeros))
    except Exception as exc:
        raise SourceError(
            f"model.inputs: the model refuses inputs of shape {shapes} (batch first): {where_raised(exc)}; correct model.inputs"
        ) from exc
    for output in outputs:
        if not output.is_floating_point():
            raise SourceError(f"the model returns {output.dtype}; return the scores before argmax or rounding")
        if not bool(torch.isfinite(output).all()):
            raise SourceError("the model gives NaN or infinite outputs for an input of zeros; check the weights")
    names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    return tuple(TensorSpec(name=name, shape=tuple(output.shape)) for name, output in zip(names, outputs, strict=True))
