"""Frameworks that read their own files, each in a process of its own.

Keras and TensorFlow choose a backend once per process, keep what they allocated, and print as they like. So each runs as a script that gets
a `request.json` in an empty folder and leaves its answer there; its memory is freed with it, and all it printed is at hand when it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.core.errors import EdgepackError, EnvironmentProblem, SourceError, UnsupportedError
from edgepack.core.files import write_json

if TYPE_CHECKING:
    from edgepack.network.model import Model

_RELATIVE_TOLERANCE = 1e-4  # float sums in another order
_TIMEOUT_S = 3600  # a network with a billion weights takes minutes
_LAST_LINES = 5
_ROOT = str(Path(__file__).resolve().parents[3])
_FAILURES: dict[str, type[EdgepackError]] = {
    kind.__name__: kind for kind in (EnvironmentProblem, SourceError, UnsupportedError)
}


def convert(script: str, folder: Path, **request: Any) -> None:
    """Run a script of this package on `folder`, which then holds what the script's description promises.

    Raises the error that the script found, and SourceError where it died.
    """
    write_json(folder / "request.json", request)
    log = folder / "convert.log"
    with log.open("wb") as output:
        try:
            # -P: a file of the folder we are in, keras.py say, never stands in for a library.
            done = subprocess.run(
                [sys.executable, "-P", "-m", f"{__name__}.{script}", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_S,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))},
            )
        except subprocess.TimeoutExpired as exc:
            raise SourceError(
                f"model.file: {request['file']}: not converted after {_TIMEOUT_S} s; is there an endless loop in the model?"
            ) from exc
    failure = folder / "failure.json"
    if failure.is_file():
        found = json.loads(failure.read_text(encoding="utf-8"))
        raise _FAILURES[found["error"]](found["message"])
    if done.returncode != 0:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = "\n".join(lines[-_LAST_LINES:])
        raise SourceError(
            f"model.file: {request['file']}: the conversion died (exit code {done.returncode}); its last words:\n{last}"
        )
    (folder / "request.json").unlink()
    log.unlink()


def compare(model: Model, probe: Path, *, whose: str, where: str) -> None:
    """Raise SourceError where the network and the framework itself differ on the samples of `probe.npz`: `input_0` … and `output_0` …, in the model's order."""
    import numpy as np

    from edgepack.core.types import Samples
    from edgepack.network.model import predict

    with np.load(probe) as arrays:
        samples = Samples(inputs={spec.name: arrays[f"input_{index}"] for index, spec in enumerate(model.inputs)})
        wanted = {spec.name: arrays[f"output_{index}"] for index, spec in enumerate(model.outputs)}
    for name, ours in predict(model, samples).items():
        largest = float(np.abs(wanted[name]).max())
        difference = float(np.abs(ours - wanted[name]).max()) if ours.shape == wanted[name].shape else float("inf")
        if not difference <= _RELATIVE_TOLERANCE * max(largest, 1.0):
            raise SourceError(
                f"{where}: output '{name}' of the converted network differs from {whose}'s by {difference:.3g} (largest value {largest:.3g}); "
                "rewrite the network as a torch module and give it as model.factory, and please report this model"
            )
