"""A .tflite file in ai_edge_litert or in its predecessor, tflite_runtime."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ..errors import AgentError
from .shared import execution, reason

NO_DELEGATE = "none"


class LiteRt:
    """A .tflite file in ai_edge_litert, or in tflite_runtime where only that is installed.

    `delegate` is the path of a library that has an external delegate, with `delegate_options`; 'none' leaves out the default one (XNNPACK).
    """

    OPTIONS: ClassVar[dict[str, Any]] = {"delegate": None, "delegate_options": {}}
    PACKAGES: tuple[str, ...] = ("ai_edge_litert", "tflite_runtime")

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """Another interpreter that has this runtime where this one lacks it."""
        return None

    @classmethod
    def find(cls) -> tuple[Any, str]:
        """The interpreter module and its package's name. Raises AgentError when none can be imported."""
        reasons = []
        for package in cls.PACKAGES:
            try:
                return import_module(package + ".interpreter"), package
            except Exception as exc:  # noqa: BLE001 - built for another NumPy or libc, a library may raise anything
                reasons.append(reason(package.replace("_", "-"), exc))
        raise AgentError("runtime", "; or ".join(reasons))

    @classmethod
    def accelerators(cls, module: Any) -> list[str]:
        """None that it could tell without a delegate's library."""
        return []

    @classmethod
    def open(cls, module: Any, spec: dict[str, Any]) -> LiteRt:
        """The model, as the spec asks for it."""
        if not spec["profile"]:
            return cls(module, spec)
        from .litert_profile import LiteRtProfiled

        return LiteRtProfiled(module, spec)

    def __init__(self, module: Any, spec: dict[str, Any]) -> None:
        options, path = spec["options"], spec["model"]
        chosen, self._delegate = options.get("delegate"), "XNNPACK"
        settings: dict[str, Any] = {"model_path": path, "num_threads": spec["threads"]}
        if chosen == NO_DELEGATE:
            kind = module.OpResolverType
            settings["experimental_op_resolver_type"] = kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        elif chosen is not None:
            self._delegate = Path(chosen).name
            settings["experimental_delegates"] = [_external(module, chosen, options["delegate_options"])]
        self._interpreter = module.Interpreter(**settings)
        self._interpreter.allocate_tensors()
        self.invoke = self._interpreter.invoke

    def execution(self) -> dict[str, Any]:
        """Operators by the type of their first output, in which the kernels compute, and how many of them the delegate took."""
        import numpy as np

        names = {detail["index"]: np.dtype(detail["dtype"]).name for detail in self._interpreter.get_tensor_details()}
        every = self._interpreter._get_ops_details()
        operators = [details for details in every if details["op_name"] != "DELEGATE"]
        told = execution("CPU", [_short(names[int(details["outputs"][0])]) for details in operators])
        taken = delegated(every)
        return dict(told, delegate=self._delegate if taken else None, delegated_nodes=len(taken), nodes=len(operators))

    def signature(self, kind: str) -> list[dict[str, Any]]:
        """The details of all 'input' or 'output' tensors in the model's order, named as its signature names them."""
        details: list[dict[str, Any]] = getattr(self._interpreter, f"get_{kind}_details")()
        if len(self._interpreter.get_signature_list()) != 1:
            return details
        runner = self._interpreter.get_signature_runner()
        named = getattr(runner, f"get_{kind}_details")()
        names = {detail["index"]: name for name, detail in named.items()}
        return [dict(detail, name=names.get(detail["index"], detail["name"])) for detail in details]

    def set(self, detail: dict[str, Any], value: Any) -> None:
        self._interpreter.set_tensor(detail["index"], value)

    def get(self, detail: dict[str, Any]) -> Any:
        return self._interpreter.get_tensor(detail["index"])


class TfliteRuntime(LiteRt):
    """A .tflite file in tflite_runtime, never in its successor, which has another name. (`timeout_s` is for who asks.)"""

    OPTIONS: ClassVar[dict[str, Any]] = {"python": None, "timeout_s": None, **LiteRt.OPTIONS}
    PACKAGES = ("tflite_runtime",)

    @classmethod
    def python(cls, options: dict[str, Any]) -> str | None:
        """On a board this Python has it. On a computer with a newer one it lives apart: as for edgepack's own runtime of that name."""
        if find_spec("tflite_runtime"):
            return None
        beside = str(Path(sys.prefix, "tflite-runtime", "bin", "python"))
        named = (options["python"], os.environ.get("EDGEPACK_TFLITE_RUNTIME_PYTHON"), beside)
        return next((found for found in map(shutil.which, filter(None, named)) if found), None)


def delegated(operators: list[dict[str, Any]]) -> set[int]:
    """The indices of the operators that delegates took: those from which a delegate's outputs come, back to its inputs."""
    made_by = {int(tensor): one for one in operators if one["op_name"] != "DELEGATE" for tensor in one["outputs"]}
    taken: set[int] = set()
    for delegate in (one for one in operators if one["op_name"] == "DELEGATE"):
        inputs, waiting = (
            {int(tensor) for tensor in delegate["inputs"]},
            [int(tensor) for tensor in delegate["outputs"]],
        )
        while waiting:
            source = made_by.get(waiting.pop())
            if source is not None and source["index"] not in taken:
                taken.add(source["index"])
                waiting += [int(tensor) for tensor in source["inputs"] if int(tensor) not in inputs]
    return taken


def _external(module: Any, library: str, options: dict[str, Any]) -> Any:
    try:
        return module.load_delegate(library, options)
    except (OSError, ValueError, RuntimeError) as exc:
        raise AgentError("runtime", f"the delegate {library} can't be loaded: {exc or type(exc).__name__}") from exc


def _short(dtype: str) -> str:
    """int8 → i8, as OpenVINO writes types."""
    return re.sub(r"^([iuf])[a-z]*(?=\d)", r"\1", dtype)
