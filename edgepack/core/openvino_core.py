"""OpenVINO's Core, one for the whole process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from edgepack.core.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    from openvino import Core


@cache
def openvino_core() -> Core:
    """The Core that every use of OpenVINO in this process shares; it is never destroyed.

    Each Core's CPU plugin puts a signal stack of its own over the one before and takes it away at its end (src/plugins/intel_cpu/src/plugin.cpp, SigAltstackSetup,
    2026.4). Two Cores that don't end in reverse order leave the process with a stack that is freed, and the next signal, such as Ctrl-C, is a
    segmentation fault. Raises ImportError where OpenVINO is not installed.
    """
    switch_off_telemetry()
    from openvino import Core

    return Core()
