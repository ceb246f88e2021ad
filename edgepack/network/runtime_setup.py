"""Torch and NNCF made deterministic, quiet and offline, in one place."""

from __future__ import annotations

import logging
import os


def prepare(*, threads: int, seed: int) -> None:
    """Set threads and seeds before any work of a stage; the same values give the same bytes on the same machine.

    NNCF's telemetry is switched off: edgepack sends nothing anywhere.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for "no telemetry" (nncf/telemetry/wrapper.py, 3.4)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    logging.getLogger("nncf").setLevel(logging.ERROR)
