"""`python edgepack-agent.pyz spec.json` (or the spec on stdin) measures; `… --probe` tells what the device is and has."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .errors import EXIT_CODES, AgentError, described
from .events import AGENT, Events
from .runtimes import runtime_class
from .spec import read_spec

CHANGED = "EDGEPACK_AGENT_CHANGED_PYTHON"


def main(argv: list[str]) -> int:
    """Answer one question; 0 when it was measured, else the exit code of what went wrong (`errors.EXIT_CODES`)."""
    stream = os.fdopen(os.dup(1), "w")
    try:
        with stream:
            if argv[1:2] == ["--probe"]:
                return _probe(argv, stream)
            return _answer(argv, Events(stream))
    except OSError as exc:  # also from closing the stream
        sys.stderr.write(f"edgepack-agent: the answer can't be written: {exc.strerror}\n")
        return EXIT_CODES["output"]


def _answer(argv: list[str], events: Events) -> int:
    try:
        spec = read_spec(argv)
        _change_python(spec, argv)
        os.dup2(2, 1)  # what a runtime prints to stdout must not end up among the events
        from .measure import measure

        measure(spec, events)
    except BrokenPipeError:
        raise
    except Exception as exc:  # noqa: BLE001 - the process's border: whatever failed is told as an event and an exit code
        failure = described(exc, doing="inference")
        events.tell("error", agent=AGENT, kind=failure.kind, message=failure.message)
        return EXIT_CODES[failure.kind]
    return 0


def _change_python(spec: dict[str, Any], argv: list[str]) -> None:
    """Go on as another interpreter where only that has the runtime. Once: what lacks it, too, says so."""
    python = runtime_class(spec["runtime"]).python(spec["options"])
    if python is not None and len(argv) > 1 and CHANGED not in os.environ:
        os.environ[CHANGED] = "1"
        os.execv(python, [python, "-I", *argv])


def _probe(argv: list[str], stream: Any) -> int:
    from .probe import probe, probe_runtime

    try:
        answer = probe_runtime(argv[2]) if len(argv) > 2 else probe(argv[0])
    except AgentError as exc:
        answer = {"missing": exc.message}
    json.dump(answer, stream)
    return 0
