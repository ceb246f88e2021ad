"""OpenSSF's model_signing, which lives in an environment of its own, because it needs other versions than edgepack does (`make model-signing`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

VARIABLE = "EDGEPACK_MODEL_SIGNING"
_USUAL = Path(__file__).parents[2] / ".venv/model-signing/bin/model_signing"


def tool() -> str | None:
    """The program, or None where it isn't installed."""
    named = os.environ.get(VARIABLE) or (str(_USUAL) if _USUAL.is_file() else None)
    return named or shutil.which("model_signing")


def why_not() -> str | None:
    return None if tool() else f"model_signing is not installed: 'make model-signing', or name it in ${VARIABLE}"


def run(*arguments: object) -> int:
    """Its exit code; 0 where it verified or signed."""
    program = tool()
    assert program is not None
    ours = {"PYTHONPATH", "PYTHONHOME"}
    ended = subprocess.run(
        [program, *map(str, arguments)],
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode
