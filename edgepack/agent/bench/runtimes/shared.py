"""What every runtime's file needs: importing it with a clear error, and the form in which execution and shapes are told."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import AgentError


def imported(module: str, package: str) -> tuple[Any, str]:
    """The module and its package's name. Raises AgentError of kind 'runtime' when it isn't there or doesn't work."""
    try:
        return import_module(module), package
    except Exception as exc:
        raise AgentError("runtime", reason(package, exc)) from exc


def reason(package: str, exc: Exception) -> str:
    """Why a package can't be used, and what to do."""
    if isinstance(exc, ModuleNotFoundError):
        return f"install {package}: {exc}"
    return f"{package} is installed and can't be imported ({type(exc).__name__}: {exc}); install one for this Python and NumPy"


def execution(device: str, types: list[str], notes: list[str] | None = None) -> dict[str, Any]:
    """What ran, with operators counted by type."""
    return {"device": device, "types": {name: types.count(name) for name in sorted(set(types))}, "notes": notes or []}


def fixed(shape: Any) -> tuple[int, ...]:
    """A shape with 1 for an open batch. Another open dimension is 0, which fits no sample, so that samples must be given."""
    sizes = [size if isinstance(size, int) else None for size in shape]
    return tuple((1 if axis == 0 else 0) if size is None else size for axis, size in enumerate(sizes))
