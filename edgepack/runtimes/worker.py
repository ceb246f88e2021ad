"""A runtime in a process of its own, asked over pipes: for libraries that can't live in edgepack's Python."""

from __future__ import annotations

import io
import json
import os
import select
import struct
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgepack.core.errors import EnvironmentProblem, StageError
from edgepack.core.types import Array

_LENGTH = struct.Struct(">Q")
_PIPE_BYTES = 1 << 16
_TAIL_LINES = 5


class WorkerProcess:
    """A child process that answers questions; edgepack/agent/tflite_worker.py says what a message looks like.

    It is killed when this object is closed or collected, when a question takes longer than `timeout_s`, and when asking is interrupted; it ends by itself
    when this process does. A session of its own keeps the terminal's Ctrl-C from it, so that who asked decides.
    """

    def __init__(self, python: str, script: Path, *, timeout_s: float) -> None:
        """Raises EnvironmentProblem when the interpreter can't be started."""
        self._timeout_s = timeout_s
        # A file, not a pipe: nobody reads while it runs, and a full pipe would stop it.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            # -I: neither the caller's PYTHONPATH nor the user's own packages reach the worker.
            self._process = subprocess.Popen(
                [python, "-I", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            self._errors.close()
            raise EnvironmentProblem(f"{python}: can't be started: {exc.strerror}; name another interpreter") from exc
        self.close = weakref.finalize(self, _end, self._process, self._errors)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)

    def ask(self, question: Mapping[str, Any], arrays: Sequence[Array] = ()) -> tuple[dict[str, Any], list[Array]]:
        """The answer and its arrays. Raises StageError when the worker died or took too long; afterwards every question fails."""
        if not self.close.alive:
            raise StageError("the worker process has ended; open the model again")
        deadline = time.monotonic() + self._timeout_s
        try:
            self._send(_message(question, arrays), deadline)
            answer = json.loads(self._receive(deadline))
            received = [_array(self._receive(deadline)) for _ in range(answer["arrays"])]
        except (EOFError, BrokenPipeError, ValueError) as exc:
            message = self._how_it_ended()
            self.close()
            raise StageError(message) from exc
        except TimeoutError as exc:
            self.close()
            raise StageError(f"the worker process took longer than {self._timeout_s:g} s and was killed") from exc
        except BaseException:  # interrupted in the middle of a message: the next one could not be told from its rest
            self.close()
            raise
        return answer, received

    def _send(self, content: bytes, deadline: float) -> None:
        view = memoryview(content)
        while view:
            _wait([], [self._to], deadline)
            view = view[os.write(self._to, view[:_PIPE_BYTES]) :]

    def _receive(self, deadline: float) -> bytes:
        (size,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        return self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            _wait([self._from], [], deadline)
            part = os.read(self._from, min(size - len(content), 1 << 20))
            if not part:
                raise EOFError
            content += part
        return bytes(content)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the worker process sent an answer that can't be read"
        self._errors.seek(0)
        last_lines = self._errors.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the worker process {ended}" + ("; its last lines:\n" + "\n".join(last_lines) if last_lines else "")


def _message(question: Mapping[str, Any], arrays: Sequence[Array]) -> bytes:
    parts = [json.dumps({**question, "arrays": len(arrays)}).encode()]
    for array in arrays:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        parts.append(buffer.getvalue())
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _array(content: bytes) -> Array:
    array: Array = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _wait(readers: list[int], writers: list[int], deadline: float) -> None:
    """Until one of them is ready. Raises TimeoutError."""
    left = deadline - time.monotonic()
    if left <= 0 or not any(select.select(readers, writers, [], left)):
        raise TimeoutError


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """It holds nothing worth keeping, so it is killed; waiting for it leaves no zombie."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            stream.close()
