"""Where the examples are, which of them can run here, and how a command is run and measured."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = Path(os.environ.get("EDGEPACK_BENCHMARK_EXAMPLES", ROOT / "examples"))  # built ones may lie elsewhere
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recipe that can be built here."""

    name: str
    recipe: Path
    train: Path | None = None


def cases() -> list[Case]:
    """The examples whose data is here; says which are not."""
    found = [Case(name="digits", recipe=EXAMPLES / "digits/edgepack.toml", train=EXAMPLES / "digits/train.py")]
    if DEBIAN_FASHION_MNIST.is_dir() or "FASHION_MNIST" in os.environ:
        found.append(
            Case(
                name="fashion_mnist",
                recipe=EXAMPLES / "fashion_mnist/edgepack.toml",
                train=EXAMPLES / "fashion_mnist/train.py",
            )
        )
    else:
        print("fashion_mnist: left out, its data is not here (apt-get install dataset-fashion-mnist)")
    if "EDGEPACK_TEST_DATA" in os.environ:
        found.append(Case(name="resnet20_cifar10", recipe=EXAMPLES / "resnet20_cifar10/edgepack.toml"))
        found.append(Case(name="ds_cnn", recipe=EXAMPLES / "ds_cnn/edgepack.toml"))
        found.append(Case(name="efficientnet_lite0 PTQ", recipe=EXAMPLES / "efficientnet_lite0/edgepack.toml"))
        found.append(Case(name="efficientnet_lite0 QAT", recipe=EXAMPLES / "efficientnet_lite0/qat.toml"))
    else:
        print("resnet20_cifar10, ds_cnn, efficientnet_lite0: left out, EDGEPACK_TEST_DATA is not set")
    only = os.environ.get("EDGEPACK_BENCHMARK_ONLY", "")
    return [case for case in found if only in case.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One command: its wall time, and the largest resident memory of any one of its processes."""

    seconds: float
    peak_bytes: int
    output: str


def measured(*command: str, cwd: Path = ROOT) -> Measured:
    """Run a command to its end; raises CalledProcessError when it fails.

    The memory is that of the largest process among all children so far (getrusage), so measure the largest command last or alone.
    """
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="\n")
        done.check_returncode()
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Measured(seconds=seconds, peak_bytes=peak_bytes, output=done.stdout)


def edgepack(*arguments: str) -> tuple[str, ...]:
    """The command line of this environment."""
    return (sys.executable, "-m", "edgepack", *arguments)
