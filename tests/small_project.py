"""A whole project in miniature: a network that trains, prunes, quantizes and exports in seconds, and what watches a build of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, EVALUATION = 48, 32
PTQ = '[[compress]]\nmethod = "quantize"\nmode = "ptq"\n'
PRUNE_AND_QAT = """
[[compress]]
method = "prune_magnitude"
sparsity = 0.5
update_every = 1

[compress.train]
steps = 8
batch_size = 8
learning_rate = 1e-3

[[compress]]
method = "quantize"
mode = "qat"

[compress.train]
steps = 8
batch_size = 8
learning_rate = 1e-3
"""
QAT = PRUNE_AND_QAT[PRUNE_AND_QAT.index('[[compress]]\nmethod = "quantize"') :]

MODEL = '''"""A stem, an inverted residual block, a stride, a linear layer: what most edge networks are made of."""

import torch
from torch import nn

from widths import WIDTH


def conv(channels, out, kernel=3, stride=1, groups=1):
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]


class Tiny(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(*conv(1, WIDTH), nn.ReLU6())
        self.block = nn.Sequential(*conv(WIDTH, WIDTH, groups=WIDTH), nn.ReLU6(), *conv(WIDTH, WIDTH, kernel=1))
        self.down = nn.Sequential(*conv(WIDTH, 2 * WIDTH, stride=2), nn.ReLU6())
        self.classifier = nn.Linear(2 * WIDTH, classes)

    def forward(self, image):
        features = self.stem(image)
        features = self.down(features + self.block(features))
        return self.classifier(features.mean((2, 3)))


def make(classes=4):
    return Tiny(classes)
'''
HELPER = "WIDTH = 8\n"
STUDENT = '''"""A network of another architecture with the same input and output."""

from torch import nn

from model import conv


class Small(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first = nn.Sequential(*conv(1, width, stride=2), nn.ReLU6())
        self.second = nn.Sequential(*conv(width, 2 * width), nn.ReLU6())
        self.head = nn.Linear(2 * width, classes)

    def forward(self, image):
        return self.head(self.second(self.first(image)).mean((2, 3)))


def small(width=4, classes=4):
    return Small(width, classes)
'''

RECIPE = """
targets = ["arm64"]
seed = {seed}
threads = 1

[bundle]
name = "tiny"
version = "1.0.0"
labels = ["a", "b", "c", "d"]

[model]
factory = "model:make"
weights = "{weights}"

[[model.inputs]]
name = "image"
shape = [1, 8, 8]
layout = "CHW"

[data.train]
provider = "npz"
file = "train.npz"

[data.calibration]
provider = "npz"
file = "train.npz"
count = 12

[data.evaluation]
provider = "npz"
file = "evaluation.npz"
y = "y"

[budget]
drop_points = 40.0

[fidelity]
top1_agreement_min = 0.9
max_steps_max = 8.0

{extra}
{steps}
"""

# Runs in a process of its own; what it does is told line by line.
BUILD = """
import json, sys
from pathlib import Path
from edgepack.core.errors import EdgepackError
from edgepack.pipeline import build


class Told:
    def __init__(self): self.at = 0
    def start(self, what, *, total=None):
        self.what, self.at = what, 0
        print("start", what, flush=True)
    def advance(self, units=1, *, note=""):
        self.at += units
        print("at", self.at, self.what, flush=True)
    def done(self, note=""): print("done", self.what, flush=True)
    def note(self, text): print("note", text, flush=True)


folder = Path(sys.argv[1])
work = Path(sys.argv[2]) if len(sys.argv) > 2 else None
dist = Path(sys.argv[3]) if len(sys.argv) > 3 else None
try:
    bundle = build(folder, work_folder=work, dist_folder=dist, progress=Told())
except EdgepackError as exc:
    print(str(exc), file=sys.stderr)
    sys.exit(exc.exit_code)
print("modules", " ".join(sorted({name.split(".")[0] for name in sys.modules})))
print("bundle", bundle.path)
"""


@dataclass(slots=True)
class Recorder:
    """A Progress that remembers what was started, and how far each step came."""

    started: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    advanced: dict[str, list[int]] = field(default_factory=dict)

    def start(self, what: str, *, total: int | None = None) -> None:
        self.started.append(what)
        self.advanced[what] = []

    def advance(self, units: int = 1, *, note: str = "") -> None:
        self.advanced[self.started[-1]].append(units)

    def done(self, note: str = "") -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def compressed(self) -> bool:
        """Whether any compression began."""
        return any(what.startswith(("Pruning", "Measuring", "Quantization-aware")) for what in self.started)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with model.py, weights, data and edgepack.toml."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "edgepack.toml"

    @property
    def work(self) -> Path:
        return self.folder / ".edgepack"

    def write_recipe(
        self, steps: str = PTQ, *, extra: str = "", weights: str = "weights.safetensors", seed: int = 0
    ) -> None:
        self.recipe.write_text(RECIPE.format(steps=steps, extra=extra, weights=weights, seed=seed))

    def replace(self, old: str, new: str, *, file: str = "edgepack.toml") -> None:
        """Change a file's text; `old` must be in it."""
        text = (self.folder / file).read_text()
        assert old in text, f"{old!r} is not in {file}"
        (self.folder / file).write_text(text.replace(old, new))

    def data(self, name: str = "evaluation") -> dict[str, Any]:
        with np.load(self.folder / f"{name}.npz") as content:
            return {key: content[key] for key in content.files}

    def write_data(self, name: str = "evaluation", **arrays: Any) -> None:
        np.savez(self.folder / f"{name}.npz", **{**self.data(name), **arrays})

    def state(self) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.folder / "weights.safetensors")

    def write_state(self, state: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in state.items()}, self.folder / "weights.safetensors")

    def stages(self, work: Path | None = None) -> dict[str, str]:
        """Finished stages: folder name → an identity that changes when it is made again."""
        folders = sorted(((work or self.work) / "stages").glob("[!.]*"))
        return {folder.name: f"{folder.stat().st_ino} {folder.stat().st_mtime_ns}" for folder in folders}

    def take(self, other: Project, *stages: str) -> None:
        """Finished stages of another project, so that a build of the same model finds what it would make again."""
        for stage in stages:
            for folder in (other.work / "stages").glob(f"{stage}-*"):
                shutil.copytree(folder, self.work / "stages" / folder.name)

    def copy(self, to: Path) -> Project:
        shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns(".edgepack", "dist", "__pycache__"))
        return Project(folder=to)


def write_project(folder: Path) -> Project:
    """Weights that tell four classes apart, and labels that the float model itself gives."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "widths.py").write_text(HELPER)
    (folder / "student.py").write_text(STUDENT)
    network = seeded_network()
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(4, 1, 8, 8)).astype(np.float32)
    classes = np.arange(TRAIN + EVALUATION) % 4
    x = prototypes[classes] + rng.normal(scale=0.4, size=(len(classes), 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        features: list[torch.Tensor] = []
        handle = network.classifier.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
        network(torch.from_numpy(x))
        handle.remove()
        ones = torch.cat([features[0], torch.ones(len(x), 1)], dim=1)
        wanted = 6 * torch.nn.functional.one_hot(torch.from_numpy(classes), 4) - 1.5
        ridge = ones.T @ ones + 0.05 * torch.eye(ones.shape[1])
        solution = torch.linalg.solve(ridge, ones.T @ wanted)
        network.classifier.weight.copy_(solution[:-1].T)
        network.classifier.bias.copy_(solution[-1])
        y = network(torch.from_numpy(x)).argmax(1).numpy()
    assert len(set(y.tolist())) == 4
    np.savez(folder / "train.npz", x=x[:TRAIN], y=y[:TRAIN])
    np.savez(folder / "evaluation.npz", x=x[TRAIN:], y=y[TRAIN:])
    project = Project(folder=folder)
    project.write_state(network.state_dict())
    project.write_recipe()
    return project


def seeded_network() -> Any:
    """The network of MODEL with batch norms that do something, one of them with a negative factor."""
    import torch

    namespace: dict[str, Any] = {}
    exec(MODEL.replace("from widths import WIDTH", HELPER), namespace)
    torch.manual_seed(0)
    network = namespace["make"]()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.2, 0.6)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.weight[0] *= -1
    return network.eval()


class Building:
    """A build in a process of its own, in its own group, whose progress lines are read as they come."""

    def __init__(self, project: Project, *more: Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(project.folder), *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        self.lines: list[str] = []
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        for line in stream:
            into.append(line.rstrip("\n"))

    def wait_for(self, condition: Callable[[str], bool] | str, *, limit_s: float = 240) -> str:
        """The first line that fits; fails when the process ends without one."""
        fits = condition if callable(condition) else lambda line: line.startswith(condition)
        deadline = time.monotonic() + limit_s
        while True:
            ended = self.process.poll() is not None
            found = next((line for line in list(self.lines) if fits(line)), None)
            if found is not None:
                return found
            assert not ended, f"ended with {self.process.returncode}: {self.lines[-5:]} {self.error}"
            assert time.monotonic() < deadline, self.lines[-5:]
            time.sleep(0.005)

    def kill(self, number: int = signal.SIGKILL) -> int:
        os.killpg(self.process.pid, number)
        return self.end(check=False)

    def end(self, *, check: bool = True, limit_s: float = 300) -> int:
        code = self.process.wait(timeout=limit_s)
        for reader in self._readers:
            reader.join(timeout=10)
        assert not check or code == 0, self.error
        return code

    @property
    def error(self) -> str:
        return "\n".join(self._errors)

    @property
    def bundle(self) -> Path:
        return Path(next(line for line in self.lines if line.startswith("bundle ")).removeprefix("bundle "))

    @property
    def modules(self) -> set[str]:
        return set(next(line for line in self.lines if line.startswith("modules ")).split()[1:])

    @property
    def started(self) -> list[str]:
        return [line.removeprefix("start ") for line in self.lines if line.startswith("start ")]


def copy_built(project: Project, to: Path) -> Project:
    """A project with its finished stages and bundle, in another place."""
    shutil.copytree(project.folder, to)
    return Project(folder=to)
