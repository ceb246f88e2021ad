"""The small project's network as a model file of each kind. A new source needs a line here."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
from small_project import Project, seeded_network

from sources import keras_files, tensorflow_files

MODEL = '[model]\nfactory = "model:make"\nweights = "weights.safetensors"\n'
INPUTS = '[[model.inputs]]\nname = "image"\nshape = [1, 8, 8]\nlayout = "CHW"\n'


def trained(project: Project) -> torch.nn.Module:
    """The project's network with its weights."""
    network: torch.nn.Module = seeded_network()
    network.load_state_dict(project.state())
    return network.eval()


def write_pt2(network: torch.nn.Module, path: Path, *, batch: int | None = None, **options: object) -> None:
    """For a fixed number of samples, or for any."""
    dynamic = {"image": {0: torch.export.Dim.DYNAMIC}} if batch is None else None
    program = torch.export.export(network, (torch.zeros(batch or 2, 1, 8, 8),), dynamic_shapes=dynamic, **options)  # type: ignore[arg-type]
    torch.export.save(program, path)


def _pt2(project: Project) -> str:
    write_pt2(trained(project), project.folder / "model.pt2")
    return "model.pt2"


def write_onnx(network: torch.nn.Module, path: Path, *, batch: int | None = None) -> None:
    """By torch's exporter, for a fixed number of samples, or for any."""
    dynamic = {"image": {0: torch.export.Dim.DYNAMIC}} if batch is None else None
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            network,
            (torch.zeros(batch or 2, 1, 8, 8),),
            str(path),
            input_names=["image"],
            output_names=["scores"],
            dynamic_shapes=dynamic,
            external_data=False,
            dynamo=True,
        )


def _onnx(project: Project) -> str:
    write_onnx(trained(project), project.folder / "model.onnx")
    return "model.onnx"


def _keras(project: Project) -> str:
    """Channels last: the samples are turned with it."""
    keras_files.write_tiny(trained(project), project.folder / "model.keras")
    _turn_samples(project)
    return "model.keras"


def _saved_model(project: Project) -> str:
    tensorflow_files.write_tiny(trained(project), project.folder / "saved")
    _turn_samples(project)
    return "saved"


def _turn_samples(project: Project) -> None:
    for role in ("train", "evaluation"):
        project.write_data(role, x=project.data(role)["x"].transpose(0, 2, 3, 1))


def _tflite(project: Project) -> str:
    import litert_torch

    with contextlib.redirect_stdout(io.StringIO()):
        litert_torch.convert(trained(project), (torch.zeros(1, 1, 8, 8),)).export(str(project.folder / "model.tflite"))
    return "model.tflite"


MODEL_FILES: dict[str, Callable[[Project], str]] = {
    "keras": _keras,
    "onnx": _onnx,
    "saved_model": _saved_model,
    "tflite": _tflite,
    "torch_export": _pt2,
}


def use_file(project: Project, kind: str, *, inputs: bool = False) -> Path:
    """Write the network as a file of that kind and let the recipe take it, with or without its own inputs."""
    name = MODEL_FILES[kind](project)
    project.replace(MODEL, f'[model]\nfile = "{name}"\n')
    if not inputs:
        project.replace(INPUTS, "")
    return project.folder / name
