"""Node.js and onnxruntime-web for tests: installed once by npm into the cache folder, outside the repository."""

from __future__ import annotations

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from edgepack.appkit.web.kit import ONNXRUNTIME_WEB
from edgepack.core.files import cache_folder, folder_in_the_making

NODE, NPM = shutil.which("node"), shutil.which("npm")


@functools.cache
def node_modules() -> Path | str:
    """The folder with onnxruntime-web, or why there is none."""
    if NODE is None or NPM is None:
        return "Node.js or npm is not installed"
    kept = cache_folder() / "tests" / f"onnxruntime-web-{ONNXRUNTIME_WEB}"
    if not kept.is_dir():
        with folder_in_the_making(kept) as scratch:
            (scratch / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            package = f"onnxruntime-web@{ONNXRUNTIME_WEB}"
            arguments = [NPM, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", package]
            done = subprocess.run(arguments, cwd=scratch, capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                return f"npm can't install {package}: {done.stderr.strip()[-300:]}"
    return kept / "node_modules"


def node(*arguments: str | Path, cwd: Path | None = None, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """A finished run of Node.js; `given` is its standard input."""
    assert NODE is not None
    command = [NODE, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, input=given, capture_output=True, text=True, timeout=120)


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder, on the loopback interface."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
