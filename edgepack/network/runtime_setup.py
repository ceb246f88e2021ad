"""Torch and NNCF made deterministic and quiet, in one place."""

from __future__ import annotations

import logging

import torch


def prepare(*, threads: int, seed: int) -> None:
    """Set threads and seeds before any work of a stage; the same values give the same bytes on the same machine."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # A debugging aid that costs a third of the time of small layers.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    logging.getLogger("nncf").setLevel(logging.ERROR)
