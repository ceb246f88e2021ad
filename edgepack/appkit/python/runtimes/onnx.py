"""The model in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_ERRORS_ONLY = 3


class Runtime:
    """One session, which several threads may use."""

    def __init__(self, files: list[bytes], *, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.use_deterministic_compute = True
        if not _has_vnni():
            # Else sums of uint8 × int8 products saturate at 16 bits on x86 (onnxruntime.ai, quantization).
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
        self._names = [item.name for item in self._session.get_inputs()]

    def run(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs for one sample, in the order of the model file; arrays with a first dimension of 1."""
        given = {name: np.ascontiguousarray(array) for name, array in zip(self._names, inputs, strict=True)}
        return list(self._session.run(None, given))


def _has_vnni() -> bool:
    """Whether Linux lists an instruction for exact int8 sums; False where nothing tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return bool({"avx512_vnni", "avx_vnni"} & set(flags))
