"""ONNX Runtime as a library: loaded without its log, the options of its sessions, and what it says of errors, in our words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import EnvironmentProblem, StageError, UnsupportedError

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

_FATAL = 4


def library() -> Any:
    """The module `onnxruntime`, silent. Raises EnvironmentProblem where it can't be loaded."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise EnvironmentProblem(
            f"ONNX Runtime can't be loaded ({exc}); install it with: pip install onnxruntime"
        ) from exc
    # What it has to say comes as an exception; its log is for its makers.
    onnxruntime.set_default_logger_severity(_FATAL)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def errors() -> tuple[type[Exception], ...]:
    """What it raises for a model, a provider or values that it can't use."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
    )
    return (
        *own,
        state.NotImplemented,
        state.RuntimeException,
        state.EPFail,
        state.EngineError,
        RuntimeError,
        ValueError,
    )


def options_for(onnxruntime: Any, threads: int, *, exact_sums: bool | None) -> SessionOptions:
    """One session's options: all optimizations, `threads` threads, sums that are the same each time; see OnnxRuntime.exact_sums."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.use_deterministic_compute = True
    # Without VNNI, pairs of uint8 × int8 products are added in 16 bits, which saturate (onnxruntime.ai, quantization, "reduce_range").
    if exact_sums or (exact_sums is None and _lacks_vnni()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _lacks_vnni() -> bool:
    """Whether this is an x86 CPU whose kernel lists no VNNI; False where nothing tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return "sse2" in flags and not {"avx512_vnni", "avx_vnni"} & set(flags)


def translated(path: Path, exc: Exception, release: str) -> Exception:
    """ONNX Runtime's own error as ours: what it can't run, or what is no model."""
    said = one_line(exc)
    kind = type(exc).__name__
    unknown = (
        "NOT_IMPLEMENTED",
        "is not a registered",
        "opset",
        "Opset",
        "IR version",
        "not supported",
        "No Op registered",
    )
    if kind == "NotImplemented" or any(words in said for words in unknown):
        return UnsupportedError(f"{path}: ONNX Runtime {release} can't run this model: {said}")
    if kind == "NoSuchFile" or "external" in said.lower():
        return StageError(f"{path}: a file that belongs to the model is missing or damaged: {said}")
    return StageError(f"{path}: ONNX Runtime {release} can't open this model: {said}; convert it again")


def one_line(exc: Exception) -> str:
    """The library's words without the places in its source code."""
    return re.sub(r"/onnxruntime_src/\S+:\d+ ", "", " ".join(str(exc).split()))[:600]
