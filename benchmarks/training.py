"""A training step of the examples' networks, interleaved, one thread: images as networks were written against channels last in memory, and memory that is given back
to the kernel at each `free` against memory that is kept.

Both trainings see the same random images (time doesn't hang on what they show) and begin with the same values. A step is the one of every method: the network forwards and
backwards, its teacher forwards, Adam. QAT trains a network with NNCF's hooks, whose weights stay as they lie. How memory is kept is a matter of a whole process, so
there each training is a process of its own, and the two take turns.
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.places import EXAMPLES
from edgepack.core.types import Samples, Silent
from edgepack.network.losses import output_distance
from edgepack.network.memory_layout import fastest_layout, laid
from edgepack.network.model import Model, float_network
from edgepack.network.nncf_extension import ensure_extension
from edgepack.network.post_training import post_training
from edgepack.network.runtime_setup import keep_freed_memory
from edgepack.network.training import Training
from edgepack.recipe import load_recipe
from edgepack.sources import open_source
from edgepack.targets import load_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network that trains, with the batch of its example's recipes."""

    example: str
    batch: int
    pairs: int
    is_quantized: bool = False

    @property
    def name(self) -> str:
        return f"{self.example}{' QAT' if self.is_quantized else ''}, batches of {self.batch}"


CASES = (
    Case(example="resnet20_cifar10", batch=64, pairs=8),
    Case(example="resnet20_cifar10", batch=64, pairs=6, is_quantized=True),
    Case(example="efficientnet_lite0", batch=8, pairs=3),
)


def run() -> None:
    """Print each case's ratio, the median over pairs of steps, and the extremes."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out, EDGEPACK_TEST_DATA is not set")
        return
    torch.set_num_threads(1)
    for case in CASES:
        if os.environ.get("EDGEPACK_BENCHMARK_ONLY", "") not in case.name:
            continue
        _print_ratio(f"{case.name}, channels last", _pairs(case))
        _print_ratio(f"{case.name}, memory kept", _memory_pairs(case))


def _print_ratio(name: str, pairs: list[tuple[float, float]]) -> None:
    ratios = sorted(after / before for before, after in pairs)
    step_s = statistics.median(before for before, _after in pairs)
    print(
        f"{name}: a step takes {statistics.median(ratios):.2f} of its time ({ratios[0]:.2f} … {ratios[-1]:.2f}, {len(pairs)} pairs of steps, {step_s:.2f} s without)",
        flush=True,
    )


def _pairs(case: Case) -> list[tuple[float, float]]:
    """Seconds of a step, as written and with the fastest layout; the first of each, which finds its kernels, is left out."""
    model, teacher = _networks(case)
    images = torch.rand(case.batch, *model.inputs[0].shape[1:])
    written = _Steps(copy.deepcopy(model.network), copy.deepcopy(teacher), (images,))
    layout = fastest_layout((model.network, teacher), (images[:2],))
    last = _Steps(model.network, teacher, laid((images,), layout))
    print(f"{case.name}: {layout}", flush=True)
    times = [(written.seconds(), last.seconds()) for _ in range(case.pairs + 1)]
    return times[1:]


def _memory_pairs(case: Case) -> list[tuple[float, float]]:
    """Seconds of a step in two processes, with memory given back and with memory kept; both have channels last."""
    with (
        ProcessPoolExecutor(1, get_context("spawn"), _begin, (case, False)) as given_back,
        ProcessPoolExecutor(1, get_context("spawn"), _begin, (case, True)) as kept,
    ):
        times = [
            (given_back.submit(_step_seconds).result(), kept.submit(_step_seconds).result())
            for _ in range(case.pairs + 1)
        ]
        peaks = [one.submit(_peak_bytes).result() for one in (given_back, kept)]
    print(
        f"{case.name}: peak memory of the process {peaks[0] / 1e6:,.0f} MB, kept {peaks[1] / 1e6:,.0f} MB", flush=True
    )
    return times[1:]


_IN_THIS_PROCESS: list[_Steps] = []


def _begin(case: Case, keep: bool) -> None:
    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    model, teacher = _networks(case)
    images = torch.rand(case.batch, *model.inputs[0].shape[1:])
    layout = fastest_layout((model.network, teacher), (images[:2],))
    _IN_THIS_PROCESS.append(_Steps(model.network, teacher, laid((images,), layout)))


def _step_seconds() -> float:
    return _IN_THIS_PROCESS[0].seconds()


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _networks(case: Case) -> tuple[Model, nn.Module]:
    """The example's network and its teacher, which is the same in float."""
    folder = EXAMPLES / case.example
    recipe = load_recipe(folder / "edgepack.toml")
    with tempfile.TemporaryDirectory() as scratch:
        model, _files = open_source(recipe.model, folder).load(Path(scratch))
        teacher = float_network(model)
        if case.is_quantized:
            shape = model.inputs[0].shape[1:]
            images = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
            model.network.load_state_dict(teacher.state_dict())
            hooked = post_training(
                model,
                Samples(inputs={model.inputs[0].name: images}),
                load_target(recipe.targets[0]).quantization,
                corrects_biases=False,
                range_estimator="minmax",
                aligns_channels=False,
                log=Path(scratch) / "log",
                progress=Silent(),
            )
            ensure_extension(Silent())
            return Model(network=hooked, build=model.build, inputs=model.inputs, outputs=model.outputs), teacher
    return model, teacher


class _Steps:
    """A training of one network with one batch."""

    def __init__(self, network: nn.Module, teacher: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._network, self._teacher, self._inputs = network.eval(), teacher.eval(), inputs
        self._optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)
        self._options = Training(steps=1)

    def seconds(self) -> float:
        """One step, in time of the CPU: what else runs on the machine hardly counts."""
        started = time.process_time()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            wanted = self._teacher(*self._inputs)
        loss = output_distance(self._network(*self._inputs), wanted, self._options)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return time.process_time() - started
