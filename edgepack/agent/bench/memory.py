"""Memory of this process, as Linux counts it (proc_pid_status(5), proc_pid_smaps(5))."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from .files import ROOT, read, table, with_reasons


def reset_peak() -> str | None:
    """Set VmHWM back to the present RSS (proc_pid_clear_refs(5), value 5). None, or why it was not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as exc:
        return f"/proc/self/clear_refs: {exc.strerror}: the peak includes the imports"
    return None


def resident_bytes() -> int:
    """Resident bytes now (VmRSS)."""
    return _kilobytes("VmRSS")


def peak_bytes() -> int:
    """Resident bytes at most since the last reset (VmHWM)."""
    return _kilobytes("VmHWM")


def proportional(root: Path = ROOT) -> dict[str, Any]:
    """`pss_bytes`, in which each shared page counts as its share, or the reason in `missing`."""
    told = table(read(root / "proc/self/smaps_rollup")).get("Pss")
    values = {"pss_bytes": None if told is None else int(told.split()[0]) * 1024}
    return with_reasons(values, {"pss_bytes": "no /proc/self/smaps_rollup (Linux before 4.14)"})


def major_faults() -> int:
    """How often a page had to be read from the disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _kilobytes(name: str) -> int:
    return int(table(read(Path("/proc/self/status")))[name].split()[0]) * 1024
