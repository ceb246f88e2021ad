"""Whole builds of models with several inputs, and with integers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import PRUNE_AND_QAT, PTQ
from torch import nn

from edgepack.core.errors import DataError
from edgepack.pipeline import build
from edgepack.verified import verify

WORDS, LENGTH = 30, 6
RECIPE = f"""
targets = ["{{target}}"]
threads = 1
[bundle]
name = "small"
{{model}}
[data.calibration]
provider = "npz"
file = "data.npz"
x = {{x}}
stop = 12
[data.evaluation]
provider = "npz"
file = "data.npz"
x = {{x}}
y = "y"
[fidelity]
top1_agreement_min = 0.9
[budget]
drop_points = 20.0
{PTQ}"""


class Text(nn.Module):
    """embedding → mean → linear"""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.classes = nn.Embedding(WORDS, 16), nn.Linear(16, 24), nn.Linear(24, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.classes(torch.relu(self.hidden(self.table(tokens).mean(1))))


TWO = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear, self.classes = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, image, facts):
        return self.classes(torch.relu(torch.relu(self.conv(image)).mean((2, 3)) + self.linear(facts)))

def make():
    torch.manual_seed(0)
    return Two()
"""


def text_project(folder: Path, *, target: str = "arm64", highest: int = WORDS, dtype: str = "int64") -> Path:
    torch.manual_seed(0)
    network = Text().eval()
    program = torch.export.export(
        network, (torch.zeros(2, LENGTH, dtype=torch.int64),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    torch.export.save(program, folder / "text.pt2")
    tokens = np.random.default_rng(0).integers(0, WORDS, (40, LENGTH))
    with torch.no_grad():
        labels = network(torch.from_numpy(tokens)).argmax(1).numpy()
    tokens[5, 2] = highest - 1
    np.savez(folder / "data.npz", x=tokens.astype(dtype), y=labels)
    recipe = RECIPE.format(target=target, model='[model]\nfile = "text.pt2"', x='"x"')
    (folder / "edgepack.toml").write_text(recipe)
    return folder


def two_project(folder: Path) -> Path:
    namespace: dict[str, Callable[[], nn.Module]] = {}
    exec(TWO, namespace)
    (folder / "model.py").write_text(TWO)
    rng = np.random.default_rng(0)
    images, facts = rng.normal(size=(40, 8, 8, 3)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    with torch.no_grad():
        labels = (
            namespace["make"]()
            .eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(facts))
            .argmax(1)
            .numpy()
        )
    np.savez(folder / "data.npz", image=images.transpose(0, 3, 1, 2), facts=facts, y=labels)
    model = '[model]\nfactory = "model:make"\n[[model.inputs]]\nname = "image"\nshape = [3, 8, 8]\nlayout = "CHW"\n[[model.inputs]]\nname = "facts"\nshape = [5]'
    recipe = RECIPE.format(target="arm64", model=model, x='{ image = "image", facts = "facts" }')
    (folder / "edgepack.toml").write_text(recipe)
    return folder


@pytest.mark.parametrize(("target", "metric"), [("arm64", "top1"), ("x86_64", "f1"), ("intel", "top1")])
def test_a_text_classifier_is_built_and_verified(target: str, metric: str, tmp_path: Path) -> None:
    folder = text_project(tmp_path, target=target)
    recipe = (folder / "edgepack.toml").read_text()
    (folder / "edgepack.toml").write_text(f'{recipe}\n[metric]\nname = "{metric}"\n')

    bundle = build(folder)

    manifest = bundle.variant()
    (tokens,) = manifest.inputs
    assert (tokens.name, tokens.shape[1:], tokens.quantization) == ("tokens", (LENGTH,), None)
    assert tokens.dtype == ("int32" if target == "arm64" else "int64")  # LiteRT's converter narrows indices
    assert manifest.checks_passed
    assert {check.name: check.value for check in manifest.checks}["mean_steps"] <= 0.5
    assert verify(bundle.path).passed
    assert manifest.metric is not None
    further = [] if metric == "top1" else ["top1", "precision", "recall"]
    assert [one.name for one in manifest.metric.all] == [metric, *further]
    assert all(
        one.value > 0.8 and one.float_value == 1.0 for one in manifest.metric.all
    )  # the float model made the labels
    (drop,) = [check for check in manifest.checks if check.name == "drop_points"]
    assert drop.value == pytest.approx(100 * (1.0 - manifest.metric.value))
    assert f"{metric} of the original minus that of the artifact" in drop.method
    row = json.loads(bundle.read("reports/parity.json"))["rows"][-1]
    assert row["also"] == {one.name: one.value for one in manifest.metric.also}


def test_a_text_classifier_is_pruned_and_trained(tmp_path: Path) -> None:
    recipe = text_project(tmp_path) / "edgepack.toml"
    train = '[data.train]\nprovider = "npz"\nfile = "data.npz"\n[data.calibration]'
    text = recipe.read_text().replace("[data.calibration]", train).replace(PTQ, PRUNE_AND_QAT)
    recipe.write_text(text)

    checks = build(tmp_path, allow_failed_checks=True).variant().checks

    assert all(
        check.passed for check in checks if check.kind == "fidelity"
    )  # its weights are random: accuracy means nothing


def test_a_model_with_two_inputs_is_built_and_verified(tmp_path: Path) -> None:
    bundle = build(two_project(tmp_path))

    assert [(item.name, item.dtype, item.layout) for item in bundle.variant().inputs] == [
        ("image", "int8", "NCHW"),
        ("facts", "int8", "any"),
    ]
    assert bundle.manifest.checks_passed
    assert verify(bundle.path).passed


def test_a_token_that_no_row_of_the_table_has_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"an index that no row of the model's table has"):
        build(text_project(tmp_path, highest=WORDS + 9))


def test_tokens_that_are_no_integers_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"input 'tokens' needs int64 and the samples are float32; give integers"):
        build(text_project(tmp_path, dtype="float32"))
