"""Torch and NNCF made deterministic and quiet, in one place."""

from __future__ import annotations

import ctypes
import logging
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_BYTES_MAX = 2**31 - 1


def prepare(*, threads: int, seed: int) -> None:
    """Set threads and seeds, and how memory is kept, before any work of a stage; the same values give the same bytes on the same machine."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # A debugging aid that costs a third of the time of small layers.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    logging.getLogger("nncf").setLevel(logging.ERROR)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors, for the life of this process, instead of giving it back at each `free`; other C libraries are left as they are.

    A training step allocates each activation anew: by default they are mapped, and the kernel fills them with zeros page by page, in a seventh of the time of
    EfficientNet-Lite0's step (`python -m benchmarks training`). M_MMAP_MAX = 0 and a large M_TRIM_THRESHOLD are mallopt(3)'s words for it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _BYTES_MAX)
