"""LeNet-300-100 and LeNet-5 on MNIST: fp32 bytes of the dense network ÷ the whole payload on the wire, at no more than 0.1 points lost.

For each seed a dense network is trained with and without shifted images, then `prune_entropy`, `sort_channels` and `quantize` make models of several
sizes of the first. The operating point is the smallest whose accuracy on validation images (never trained on) is at most 0.1 points below the dense network's; the
test images only judge it. Everything trained is kept in `benchmarks/.edgepack/lenets` (or $EDGEPACK_LENETS), so a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save
from torch import nn

from benchmarks.lenet_models import Lenet5, Lenet300, accuracy, dense, mnist
from benchmarks.places import ROOT
from edgepack.codec.wire_write import pack_wire
from edgepack.core.files import write_json
from edgepack.core.types import Samples, Silent
from edgepack.exporters import EXPORTERS
from edgepack.exporters.protocol import ExportOptions
from edgepack.methods.protocol import Context
from edgepack.methods.prune_entropy import PruneEntropy
from edgepack.methods.quantize import Quantize
from edgepack.methods.sort_channels import SortChannels
from edgepack.network.keep_levels import step_of
from edgepack.network.model import Model
from edgepack.network.training import Training
from edgepack.runtimes import RUNTIMES
from edgepack.targets import load_target

LOSS_POINTS_MAX = 0.1


@dataclass(frozen=True, slots=True)
class Point:
    """How far a network is compressed, and how long it learns, where that is longer than usual: what comes near to a dense network that knows shifted images needs both
    more levels and more time."""

    sparsity: float
    levels: int = 3
    shift_pixels: int = 1
    loss: Literal["labels", "distill"] = "labels"
    epochs: int | None = None

    @property
    def name(self) -> str:
        unusual = ((self.levels, 3), (self.shift_pixels, 1), (self.loss, "labels"), (self.epochs, None))
        return "-".join([str(self.sparsity), *(str(value) for value, usual in unusual if value != usual)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lenet:
    """A network, how long it is trained, the sizes that are tried, and what must be reached."""

    name: str
    make: Callable[[], nn.Module]
    dense_epochs: int
    epochs: int
    points: tuple[Point, ...]
    goals: tuple[int, int]


LENETS = (
    Lenet(
        name="lenet-300-100", make=Lenet300, dense_epochs=30, epochs=40, goals=(150, 300),
        points=(Point(0.967, levels=7, epochs=100), Point(0.97), Point(0.98), Point(0.983)),
    ),
    Lenet(
        name="lenet-5", make=Lenet5, dense_epochs=12, epochs=15, goals=(200, 400),
        points=(Point(0.975, shift_pixels=2, loss="distill", epochs=30), Point(0.975, shift_pixels=2, loss="distill"), Point(0.975), Point(0.985), Point(0.989)),
    ),
)  # fmt: skip


def run() -> None:
    """Train what is not there yet, and print a table of the operating points and one of all points."""
    if "EDGEPACK_TEST_DATA" not in os.environ:
        print("left out, EDGEPACK_TEST_DATA is not set")
        return
    torch.set_num_threads(1)
    only, seeds = (
        os.environ.get("EDGEPACK_BENCHMARK_ONLY", ""),
        range(int(os.environ.get("EDGEPACK_LENETS_SEEDS", "3"))),
    )
    folder = Path(os.environ.get("EDGEPACK_LENETS", ROOT / "benchmarks/.edgepack/lenets"))
    for lenet in LENETS:
        if only in lenet.name or only == "lenet":
            results = [_one_seed(lenet, folder / lenet.name, seed) for seed in seeds]
            _print_points(lenet, results)
            _print_chosen(lenet, results)


def _one_seed(lenet: Lenet, folder: Path, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    teachers = {
        shifted: dense(lenet.make, folder / f"dense-{'shifted' if shifted else 'plain'}-{seed}.safetensors",
                       seed=seed, epochs=lenet.dense_epochs, shifted=shifted)
        for shifted in (False, True)
    }  # fmt: skip
    points = []
    for point in lenet.points:
        file = folder / f"point-{point.name}-{seed}.json"
        if not file.is_file():
            write_json(file, _point(lenet, teachers[True], folder, seed, point))
        points.append(json.loads(file.read_text(encoding="utf-8")))
    baselines = {
        name: {
            "validation": accuracy(teachers[shifted], mnist().validation),
            "test": accuracy(teachers[shifted], mnist().test),
        }
        for name, shifted in (("plain", False), ("shifted", True))
    }
    fp32 = 4 * sum(parameter.numel() for parameter in teachers[True].network.parameters())
    return {"seed": seed, "fp32": fp32, "baselines": baselines, "points": points}


def _point(lenet: Lenet, teacher: Model, folder: Path, seed: int, point: Point) -> dict[str, Any]:
    """Prune, sort, quantize, export, pack; how large it is and how often it is right."""
    started = time.process_time()
    workspace = folder / f"work-{point.name}-{seed}"
    workspace.mkdir(exist_ok=True)
    context = Context(
        original=teacher, train=mnist().train, calibration=mnist().train.take(slice(0, 300)), constraints=load_target("arm64").quantization,
        workspace=workspace, key=f"{lenet.name}-{lenet.epochs}-{seed}-{point}", seed=seed, progress=Silent(),
    )  # fmt: skip
    training = Training(
        epochs=point.epochs or lenet.epochs, batch_size=128, learning_rate=2e-3, loss=point.loss, temperature=2.0,
        augment=("shift",), shift_pixels=point.shift_pixels, holdout=0.0,
    )  # fmt: skip
    pruning = PruneEntropy(sparsity=point.sparsity, levels=point.levels, bias_levels=7, train=training)
    model = SortChannels().apply(pruning.apply(teacher, context), context)
    facts = model.lineage[0]
    validation, test = accuracy(model, mnist().validation), accuracy(model, mnist().test)
    weights = len(pack_wire(save(_tensors(model)), "model.safetensors").wire)
    ready = Quantize(mode="ptq", bias_correction="none").apply(model, context)
    exporter = EXPORTERS.load("litert").model_validate({"options": ExportOptions(io_dtype="float32")})
    path = exporter.export(ready, mnist().train.take(slice(0, 1)), workspace, progress=Silent()).path
    return {
        "levels": point.levels, "zeros": facts["zeros"] / facts["weights"], "estimated": facts["estimated_bytes"],
        "weights": weights, "validation": validation, "test": test, "cpu_s": time.process_time() - started,
        "tflite": len(pack_wire(path.read_bytes(), path.name).wire), "tflite_test": _on_litert(path, mnist().test),
        "tflite_validation": _on_litert(path, mnist().validation),
    }  # fmt: skip


def _tensors(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """Every weight and bias as int8 codes and its step: all that an app needs beside the architecture."""
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, levels in model.levels.items():
        values = model.network.get_parameter(name).detach()
        step = step_of(values, levels, axis=0)
        assert step is not None
        tensors[name] = (values / step).round().to(torch.int8).numpy()
        tensors[f"{name}.step"] = step.reshape(1).numpy()
    return tensors


def _on_litert(path: Path, samples: Samples) -> float:
    session = RUNTIMES.load("litert")().open(path)
    images, labels = samples.inputs["image"], samples.labels
    assert labels is not None
    (scores,) = session.run({session.inputs[0].name: images}).values()
    return 100 * float((scores.argmax(1) == labels).mean())


def _print_points(lenet: Lenet, results: list[dict[str, Any]]) -> None:
    table = Table(
        "seed",
        "levels",
        "zeros",
        "estimate, B",
        "weights, B",
        "validation",
        "test",
        ".tflite, B",
        "test in LiteRT",
        "CPU s",
        title=f"{lenet.name}: every point",
    )
    for result in results:
        for point in result["points"]:
            table.add_row(
                str(result["seed"]), f"±{point.get('levels', 3)}", f"{point['zeros']:.2%}", f"{point['estimated']:,}", f"{point['weights']:,}", f"{point['validation']:.2f}",
                f"{point['test']:.2f}", f"{point['tflite']:,}", f"{point['tflite_test']:.2f}", f"{point['cpu_s']:.0f}",
            )  # fmt: skip
    Console(width=140).print(table)


def _print_chosen(lenet: Lenet, results: list[dict[str, Any]]) -> None:
    """The operating points, chosen on validation images."""
    firm, ambitious = lenet.goals
    table = Table("payload", "against dense", "dense test", "bytes", f"ratio (goals {firm}× → {ambitious}×)", "test", "points lost",
                  title=f"{lenet.name}: mean ± standard deviation over {len(results)} seeds")  # fmt: skip
    for payload, prefix in (("weights", ""), ("tflite", "tflite_")):
        for baseline in ("plain", "shifted"):
            chosen = [point for result in results if (point := _chosen(result, payload, prefix, baseline)) is not None]
            if len(chosen) < len(results):
                table.add_row(
                    payload,
                    baseline,
                    "",
                    "",
                    f"no point within {LOSS_POINTS_MAX} points on {len(results) - len(chosen)} seeds",
                    "",
                    "",
                )
                continue
            dense_test = [result["baselines"][baseline]["test"] for result in results]
            test = [point[f"{prefix}test"] for point in chosen]
            ratios = [result["fp32"] / point[payload] for result, point in zip(results, chosen, strict=True)]
            lost = [before - after for before, after in zip(dense_test, test, strict=True)]
            sizes = [point[payload] for point in chosen]
            table.add_row(
                payload,
                baseline,
                *(
                    _spread(values, digits)
                    for values, digits in ((dense_test, 2), (sizes, 0), (ratios, 1), (test, 2), (lost, 2))
                ),
            )
    Console(width=140).print(table)


def _chosen(result: dict[str, Any], payload: str, prefix: str, baseline: str) -> dict[str, Any] | None:
    least = result["baselines"][baseline]["validation"] - LOSS_POINTS_MAX
    good = [point for point in result["points"] if point[f"{prefix}validation"] >= least - 1e-9]
    return min(good, key=lambda point: point[payload], default=None)


def _spread(values: list[float], digits: int) -> str:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):,.{digits}f} ± {deviation:,.{digits}f}"
