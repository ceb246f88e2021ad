"""The question: a JSON object that names a model, a runtime and the bounds of the measurement. `devices/agent.py` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .errors import AgentError
from .runtimes import RUNTIMES, runtime_class

DEFAULTS: dict[str, Any] = {
    "model": None,  # path of the model file; the one key that has no default
    "runtime": "litert",
    "options": None,  # of the runtime, as a target's [runtime_options]
    "threads": 1,
    "cores": None,  # the cores that the process may run on; None leaves them as they are
    "warmup_min_iterations": 10,
    "warmup_min_s": 0.0,
    "warmup_max_s": 5.0,  # a warm-up that doesn't become stable ends here; 0: it ends with both its minima
    "iterations_min": 50,
    "duration_min_s": 0.5,
    "max_s": 60.0,  # warm-up and measurement together stop here, after at least one timed inference
    "seed": 0,
    "inputs": None,  # {input name: .npy file of shape (N, …)}, used in turn; without it one random sample
    "outputs": None,  # .npz file that gets the outputs for all N samples of `inputs`, untimed
    "profile": False,  # time every operator, too, which makes the samples longer
}


def read_spec(argv: list[str]) -> dict[str, Any]:
    """The spec with its defaults filled in. Raises AgentError for unreadable JSON and unknown keys."""
    try:
        given = json.loads(Path(argv[1]).read_text(encoding="utf-8") if len(argv) > 1 else sys.stdin.read())
    except (OSError, ValueError) as exc:
        raise AgentError("spec", f"the spec can't be read: {exc}") from exc
    if not isinstance(given, dict) or not isinstance(given.get("model"), str):
        raise AgentError("spec", "the spec must be a JSON object with the key 'model'")
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        raise AgentError("spec", f"unknown keys {unknown} (known: {sorted(DEFAULTS)})")
    runtime = given.get("runtime", DEFAULTS["runtime"])
    if runtime not in RUNTIMES:
        raise AgentError("spec", f"unknown runtime {runtime!r} (known: {sorted(RUNTIMES)})")
    known = runtime_class(runtime).OPTIONS
    options = given.get("options") or {}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AgentError("spec", f"unknown options {unknown} (known: {sorted(known)})")
    return dict(DEFAULTS, **dict(given, options=dict(known, **options)))
