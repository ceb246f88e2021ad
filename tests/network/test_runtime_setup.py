"""How a process is set up before it trains: memory of large tensors that is freed comes back without the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_MEGABYTES = 48
_COUNT = f"""
import resource, sys
import torch
from edgepack.network.runtime_setup import prepare

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({_MEGABYTES} * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.ones(8)
if sys.argv[1] == "prepared":
    prepare(threads=1, seed=0)
faults()
print(faults())
"""


def _page_faults(how: str) -> int:
    """Of a large tensor that is made and freed, the second time."""
    result = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt's options are glibc's")
def test_freed_memory_is_used_again_instead_of_being_mapped_anew() -> None:
    pages = _MEGABYTES * 2**20 // 4096
    left_alone, prepared = _page_faults("left alone"), _page_faults("prepared")
    assert prepared < pages / 100
    assert left_alone > 10 * prepared or left_alone < pages / 100  # huge pages may hide the difference
