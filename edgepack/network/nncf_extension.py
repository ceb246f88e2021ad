"""NNCF's compiled quantizer functions, built once per machine in a way that a kill can't poison.

NNCF compiles a C++ extension on first use through torch's own builder, which guards the build folder with a lock
*file*. A killed build leaves that file and every later run waits for it for ever; and where no compiler is found,
NNCF quietly goes on with functions that are several times slower. Here the build happens in a private folder that is moved into
place when whole, under a lock that the kernel drops with its holder, and what is missing is an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from edgepack.core.digest import digest_of
from edgepack.core.errors import EnvironmentProblem
from edgepack.core.files import cache_folder, folder_in_the_making
from edgepack.core.locks import exclusive
from edgepack.core.types import Progress

NAME = "quantized_functions_cpu"
_COMPILE_TIMEOUT_S = 900

# Runs in a process of its own, so that an interrupt ends the compiler and a failure can be told.
_BUILD = """
import sys, torch.utils.cpp_extension as cpp
from nncf.torch.quantization.extensions import CPU_EXT_SRC_LIST, EXT_INCLUDE_DIRS
cpp.load(sys.argv[1], CPU_EXT_SRC_LIST, extra_include_paths=EXT_INCLUDE_DIRS, build_directory=sys.argv[2], verbose=False)
"""


def extension_folder() -> Path:
    """The folder of the compiled extension for exactly this torch, NNCF and Python."""
    key = digest_of([version("torch"), version("nncf"), sysconfig.get_config_var("SOABI"), os.uname().machine])
    return cache_folder() / "nncf-extension" / key[:20]


def check_compiler() -> None:
    """Raise EnvironmentProblem when the extension is not built yet and no C++ compiler is here to build it."""
    if (extension_folder() / f"{NAME}.so").is_file():
        return
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise EnvironmentProblem(
            f"no C++ compiler: '{compiler}' was not found, and NNCF's quantizers are compiled once on first use; "
            "install one (Debian: apt-get install g++), or point CXX at one"
        )


def ensure_extension(progress: Progress) -> None:
    """Compile the extension if this machine has not yet, and hand it to NNCF. About 20 to 40 s, once.

    Raises EnvironmentProblem when there is no compiler or the compilation fails.
    """
    import nncf.torch.quantization.extensions as nncf_extensions

    if nncf_extensions.QuantizedFunctionsCPU._loaded_namespace is not None:
        return
    library = extension_folder() / f"{NAME}.so"
    if not library.is_file():
        check_compiler()
        lock = library.parent.with_suffix(".lock")
        with exclusive(
            lock, waiting=lambda pid: progress.note(f"waiting for process {pid}, which compiles NNCF's quantizers")
        ):
            if not library.is_file():
                progress.start("Compiling NNCF's quantizers (once per machine)")
                _compile(library.parent)
                progress.done()
    # The namespace object asks torch's builder only while this is None (nncf 3.4, torch/extensions/__init__.py).
    nncf_extensions.QuantizedFunctionsCPU._loaded_namespace = _import(library)


def _compile(final: Path) -> None:
    for orphan in final.parent.glob(".part-*"):  # of a killed compilation: we hold the lock, so nobody works there
        shutil.rmtree(orphan, ignore_errors=True)
    with folder_in_the_making(final) as scratch:
        try:
            outcome = subprocess.run(
                [sys.executable, "-c", _BUILD, NAME, str(scratch)],
                capture_output=True,
                text=True,
                timeout=_COMPILE_TIMEOUT_S,
                env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
            )
        except subprocess.TimeoutExpired as exc:
            raise EnvironmentProblem(
                f"compiling NNCF's quantizers took over {_COMPILE_TIMEOUT_S} s; is the machine overloaded?"
            ) from exc
        if outcome.returncode != 0 or not (scratch / f"{NAME}.so").is_file():
            last = "\n".join((outcome.stderr or outcome.stdout).strip().splitlines()[-15:])
            raise EnvironmentProblem(
                f"compiling NNCF's quantizers failed; is the C++ compiler whole (headers included)?\n{last}"
            )


def _import(library: Path) -> object:
    spec = importlib.util.spec_from_file_location(NAME, library)
    if spec is None or spec.loader is None:
        raise EnvironmentProblem(f"{library}: not a Python extension; delete it and build again")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as exc:
        raise EnvironmentProblem(f"{library}: can't be loaded ({exc}); delete it and build again") from exc
    return module
