"""What a device is and has: facts, state, which runtimes with which versions or why not, accelerators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .errors import AgentError
from .events import AGENT
from .facts import device_facts, version_of
from .files import ROOT
from .runtimes import RUNTIMES, runtime_class
from .state import device_state

_RUNTIME_TIMEOUT_S = 120.0  # an import takes seconds under emulation
# Device files of accelerators that have no other sign; https://docs.kernel.org/accel/introduction.html for the last.
_NODES = {
    "dev/apex_*": "Coral Edge TPU",
    "dev/nvidia[0-9]*": "NVIDIA GPU",
    "dev/dri/renderD*": "GPU",
    "dev/accel/accel*": "NPU",
}


def probe(agent: str) -> dict[str, Any]:
    """The whole answer. Each runtime is imported in a process of its own: one that crashes takes nothing else with it."""
    runtimes = {name: _asked(agent, name) for name in RUNTIMES}
    found = [device for told in runtimes.values() for device in told.pop("accelerators", [])]
    facts = dict(device_facts(), runtime="none", runtime_version="none")
    state = device_state(ask_services=True)
    accelerators = sorted({*found, *accelerator_nodes()})
    return {"agent": AGENT, "environment": facts, "state": state, "runtimes": runtimes, "accelerators": accelerators}


def probe_runtime(name: str) -> dict[str, Any]:
    """Package and version of one runtime, and what it finds to run on. Raises AgentError where it can't be imported."""
    os.dup2(2, 1)
    runtime = runtime_class(name)
    module, package = runtime.find()
    return {"package": package, "version": version_of(package), "accelerators": runtime.accelerators(module)}


def accelerator_nodes(root: Path = ROOT) -> list[str]:
    """Accelerators that the kernel has a device file for."""
    return [f"{what} ({file.relative_to(root)})" for pattern, what in _NODES.items() for file in root.glob(pattern)]


def _asked(agent: str, name: str) -> dict[str, Any]:
    python = runtime_class(name).python(runtime_class(name).OPTIONS) or sys.executable
    command = [python, *(["-S"] if sys.flags.no_site else []), agent, "--probe", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RUNTIME_TIMEOUT_S, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, AgentError) as exc:
        return {"missing": str(exc)}
    except ValueError:
        return {"missing": f"its import ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}"}
    return answer
