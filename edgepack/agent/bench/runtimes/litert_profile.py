"""Times of single operators in LiteRT, delegate's kernels included.

The Python interpreter has no profiler. The library in the same package, libLiteRt.so, has one behind its C API (litert/c/litert_profiler.h), so a
profile loads the model there a second time; kernels and delegate are the same. Its numbers are the operators' only: load time and memory
of such a run are of both models together.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from ..errors import AgentError
from .alignment import aligned
from .litert import LiteRt

_CPU = 1  # kLiteRtHwAcceleratorCpu
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite
_BUILTIN, _DELEGATED = 1 << 1, (1 << 2, 1 << 3)  # tflite::Profiler::EventType: an operator, and kernels of a delegate
_KNOWN_TYPES = {1 << bit for bit in range(9)}
_Pointer = ctypes.c_void_p


class _Event(ctypes.Structure):
    """ProfiledEventData as ai-edge-litert 2.3.0 lays it out; the memory columns are (footprint, allocated, in use)."""

    _fields_ = (
        ("tag", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", ctypes.c_uint64 * 3),
        ("memory_after", ctypes.c_uint64 * 3),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int32),
    )


class LiteRtProfiled(LiteRt):
    """A model that the interpreter describes and the C API runs."""

    def __init__(self, module: Any, spec: dict[str, Any]) -> None:
        super().__init__(module, spec)
        library = Path(module.__file__).with_name("libLiteRt.so")
        if spec["options"].get("delegate") is not None or not library.is_file():
            raise AgentError(
                "unsupported",
                "a profile of a .tflite file needs ai-edge-litert 2.1 or newer and its default delegate; leave out the profile",
            )
        self._native = _Native(library, spec)
        self.invoke = self._native.run
        self._sums: list[list[Any]] = []

    def set(self, detail: dict[str, Any], value: Any) -> None:
        self._native.write(detail["name"], value)

    def get(self, detail: dict[str, Any]) -> Any:
        raise AgentError("unsupported", "a profile writes no outputs; ask for them in a run of its own")

    def begin_profile(self) -> None:
        """Everything from here on is timed."""
        self._native.start()

    def after_each(self) -> None:
        """Add the events of the last inference to the sums."""
        events = [event for event in self._native.events() if event.kind in (_BUILTIN, *_DELEGATED)]
        if not self._sums:
            self._sums = [[event.kind, int(event.index), self._native.tag(event), 0] for event in events]
        for row, event in zip(self._sums, events):
            row[3] += event.elapsed_us

    def profile(self, inferences: int) -> list[dict[str, Any]]:
        """Operators in the order of execution; `name` is that of the operator's first output, as in the file."""
        names = {detail["index"]: detail["name"] for detail in self._interpreter.get_tensor_details()}
        operators = [one for one in self._interpreter._get_ops_details() if one["op_name"] != "DELEGATE"]
        known = [(one["op_name"], names[int(one["outputs"][0])]) for one in operators]
        kernels = [(index if kind == _BUILTIN else None, tag) for kind, index, tag, _ in self._sums]
        return [
            {"name": name, "kind": kind, "mean_ms": row[3] / inferences / 1e3, "calls": inferences}
            for (kind, name), row in zip(aligned(known, kernels), self._sums)
        ]


class _Native:
    """One model behind the C API."""

    def __init__(self, library: Path, spec: dict[str, Any]) -> None:
        self._library = ctypes.CDLL(str(library))
        environment = self._made("LiteRtCreateEnvironment", 0, None)
        model = self._made("LiteRtCreateModelFromFile", environment, spec["model"].encode())
        options = self._made("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        self._add(options, "runtime_options_string", "enable_profiling = true\n")
        self._add(options, "xnnpack", f"num_threads = {spec['threads']}\n")
        self._compiled = self._made("LiteRtCreateCompiledModel", environment, model, options)
        self._profiler = self._made("LiteRtCompiledModelGetProfiler", self._compiled)
        self._signature = self._made("LiteRtGetModelSignature", model, ctypes.c_size_t(0))
        self._inputs = self._buffers("Input", environment)
        self._outputs = self._buffers("Output", environment)
        self._arguments = [(_Pointer * len(made))(*made.values()) for made in (self._inputs, self._outputs)]

    def run(self) -> None:
        inputs, outputs = self._arguments
        counts = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(len(outputs))
        self._call("LiteRtRunCompiledModel", self._compiled, ctypes.c_size_t(0), counts[0], inputs, counts[1], outputs)

    def write(self, name: str, value: Any) -> None:
        """Copy an array into the input of that name."""
        buffer, place = _Pointer(self._inputs[name]), _Pointer()
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(place), _WRITE)
        ctypes.memmove(place, value.ctypes.data, value.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def start(self) -> None:
        self._call("LiteRtStartProfiler", self._profiler)

    def events(self) -> list[Any]:
        """What was timed since the last call. Raises AgentError where a newer library lays its events out in another way."""
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        rows = (_Event * (count.value + 1))()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, rows)
        found = list(rows)[: count.value]
        if any(row.kind not in _KNOWN_TYPES or not row.tag or row.source not in (0, 1, 2) for row in found):
            raise AgentError(
                "unsupported", "this version of ai-edge-litert tells its profile in a form that is not known here"
            )
        self._call("LiteRtResetProfiler", self._profiler)
        self.start()
        return found

    def tag(self, event: Any) -> str:
        """The operator's kind; valid until the library is closed."""
        return (ctypes.cast(event.tag, ctypes.c_char_p).value or b"").decode("utf-8", "replace")

    def _buffers(self, kind: str, environment: Any) -> dict[str, Any]:
        """One buffer for each input or output, by name."""
        count, buffers = ctypes.c_size_t(), {}
        self._call(f"LiteRtGetNumSignature{kind}s", self._signature, ctypes.byref(count))
        for index in map(ctypes.c_size_t, range(count.value)):
            name = self._made(f"LiteRtGetSignature{kind}Name", self._signature, index)
            tensor = self._made(f"LiteRtGetSignature{kind}TensorByIndex", self._signature, index)
            kind_of_tensor = (ctypes.c_uint8 * 256)()  # LiteRtRankedTensorType, handed on as it is
            self._call("LiteRtGetRankedTensorType", tensor, kind_of_tensor)
            needs = self._made(
                f"LiteRtGetCompiledModel{kind}BufferRequirements", self._compiled, ctypes.c_size_t(0), index
            )
            made = self._made("LiteRtCreateManagedTensorBufferFromRequirements", environment, kind_of_tensor, needs)
            buffers[ctypes.string_at(name).decode()] = made.value
        return buffers

    def _add(self, options: Any, identifier: str, text: str) -> None:
        """Options of a part of the library: TOML under an identifier, in memory that the library frees itself."""
        libc, opaque = ctypes.CDLL(None), _Pointer()
        libc.strdup.restype, libc.strdup.argtypes = _Pointer, [ctypes.c_char_p]
        payload, free = _Pointer(libc.strdup(text.encode())), ctypes.cast(libc.free, _Pointer)
        self._call("LiteRtCreateOpaqueOptions", identifier.encode(), payload, free, ctypes.byref(opaque))
        self._call("LiteRtAddOpaqueOptions", options, opaque)

    def _made(self, name: str, *arguments: Any) -> Any:
        """What a function writes through its last argument."""
        made = _Pointer()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            status = getattr(self._library, name)(*arguments)
        except AttributeError as exc:
            raise AgentError(
                "unsupported", f"this ai-edge-litert has no {name}, which a profile needs; install 2.3"
            ) from exc
        if status != 0:
            raise AgentError("unsupported", f"the profile failed: {name} of libLiteRt.so said {status}")
