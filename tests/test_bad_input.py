"""Whatever a user gives that can't work: one clear message, the right exit code, and no training begun."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import PTQ, Project, Recorder

from edgepack.core.errors import (
    DataError,
    EdgepackError,
    EnvironmentProblem,
    RecipeError,
    SourceError,
    UnsupportedError,
)
from edgepack.pipeline import build

Make = Callable[..., Project]
Break = Callable[[Project], object]


def refused(project: Project, kind: type[EdgepackError], *words: str, progress: Recorder | None = None) -> str:
    """The message of a build that must stop before any compression, in one piece and with these words in it."""
    progress = progress or Recorder()
    with pytest.raises(EdgepackError) as caught:
        build(project.folder, progress=progress)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert not progress.compressed, progress.started
    for word in words:
        assert word in message, message
    assert len(message) < 1800
    assert "Traceback" not in message
    assert list((project.folder / "dist").glob("*")) == []
    return message


# --- The recipe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[budget]", "[budget]\nsize_byte = 1", ["edgepack.toml: budget: unknown key 'size_byte'", "'size_bytes'"]),
        ("seed = 0", "sed = 0", ["edgepack.toml: top level: unknown key 'sed'", "'seed'"]),
        ('targets = ["arm64"]', 'targets = ["arm46"]', ["unknown target 'arm46'", "'arm64'"]),
        ('method = "quantize"', 'method = "quantise"', ["compress.0: unknown method 'quantise'", "'quantize'"]),
        ('mode = "ptq"', 'mode = "pdq"', ["compress.0 (quantize): mode", "'pdq'"]),
        ('mode = "ptq"', 'mod = "ptq"', ["compress.0 (quantize)", "unknown key 'mod'", "'mode'"]),
        ('provider = "npz"', 'provider = "npy"', ["data.train: unknown provider 'npy'", "'npz'"]),
        ('file = "train.npz"', 'fil = "train.npz"', ["data.train: provider 'npz': unknown option 'fil'", "'file'"]),
        ('factory = "model:make"', 'factory = "model.make"', ["model.factory", "module:function", "model.make"]),
        ("shape = [1, 8, 8]", "shape = [1, 0, 8]", ["model.inputs.0.shape.1", "greater than 0"]),
        ("shape = [1, 8, 8]", "", ["model.inputs.0.shape: this key is required and missing"]),
        ('name = "tiny"', 'name = "ti ny"', ["bundle.name", "ti ny"]),
        ('"c", "d"]', '"c"]', ["bundle.labels: 3 names for 4 classes"]),
        ("[budget]", '[metric]\noutput = "outptu"\n[budget]', ["metric.output", "'outptu'", "'output'"]),
        ("[budget]", "[[budget]", ["edgepack.toml: not valid TOML"]),
        ("seed = 0", "seed = -1", ["seed", "greater than or equal to 0", "-1"]),
        ('"quantize"\n', '"quantize"\n[[compress]]\nmethod = "quantize"\n', ["'quantize' must be the last step"]),
        ('labels = ["a", "b", "c", "d"]', 'labels = "no.txt"', ["bundle.labels", "no.txt", "can't be read"]),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_with_its_place(
    tiny_project: Make, old: str, new: str, words: list[str]
) -> None:
    project = tiny_project()
    project.replace(old, new)

    refused(project, RecipeError, *words)


def test_every_mistake_of_a_recipe_is_told_at_once(tiny_project: Make) -> None:
    project = tiny_project()
    project.replace("[budget]", "[budget]\nsize_byte = 1")
    project.replace("seed = 0", "sed = 0")

    assert len(refused(project, RecipeError, "size_byte", "'sed'").splitlines()) == 2


def test_a_folder_without_a_recipe_is_refused(tmp_path: Path) -> None:
    refused(Project(folder=tmp_path), RecipeError, str(tmp_path), "no recipe here", "edgepack init")


def test_training_without_training_data_is_refused(tiny_project: Make) -> None:
    project = tiny_project(PTQ.replace("ptq", "qat"))
    project.replace('[data.train]\nprovider = "npz"\nfile = "train.npz"\n', "")

    refused(project, RecipeError, "compress.0", "data.train is missing", "add a [data.train]")


# --- The weights ----------------------------------------------------------------------------------------------------


def as_torch_file(project: Project, content: Any) -> None:
    import torch

    torch.save(content, project.folder / "weights.pt")
    project.write_recipe(weights="weights.pt")


def with_state(change: Callable[[dict[str, Any]], object]) -> Break:
    def apply(project: Project) -> None:
        state = project.state()
        change(state)
        project.write_state(state)

    return apply


def under_module_prefix(project: Project) -> None:
    project.write_state({f"module.{name}": value for name, value in project.state().items()})


def set_nan(state: dict[str, Any]) -> None:
    state["classifier.bias"][1] = float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p.folder / "weights.safetensors").unlink(), ["model.weights: no file", "weights.safetensors"]),
        (lambda p: (p.folder / "weights.safetensors").write_bytes(b""), ["weights.safetensors is empty", "copy it again"]),
        (lambda p: p.replace("weights.safetensors", "weights.safetensor"), ["no file", "did you mean"]),
        (lambda p: p.replace("weights.safetensors", "data.bin") or (p.folder / "data.bin").write_bytes(b"x"), ["data.bin is none of .pt, .pth"]),
        (with_state(lambda s: s.pop("stem.0.weight")), ["1 missing, first: stem.0.weight"]),
        (with_state(lambda s: s.update(extra=s["classifier.bias"].clone())), ["1 unexpected, first: extra"]),
        (with_state(lambda s: s.update({"classifier.bias": s["classifier.bias"][:2]})), ["classifier.bias is (2,), the model wants (4,)"]),
        (under_module_prefix, ["missing", "unexpected", "save model.module.state_dict()"]),
        (with_state(set_nan), ["'classifier.bias' has 1 values that are NaN or infinite"]),
        (lambda p: p.replace('factory = "model:make"', 'factory = "model:make"\nargs = { classes = 5 }'), ["with another shape", "check the factory and its args"]),
    ],
    ids=["missing", "empty", "misspelt", "suffix", "key-missing", "key-unexpected", "shape", "prefix", "nan", "args"],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(tiny_project: Make, change: Break, words: list[str]) -> None:
    project = tiny_project()
    change(project)

    refused(project, SourceError, "model.weights", *words)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_truncated_weights_are_refused_at_any_length(tiny_project: Make, suffix: str) -> None:
    project = tiny_project()
    as_torch_file(project, project.state())
    project.write_recipe(weights=f"weights.{suffix}")
    whole = (project.folder / f"weights.{suffix}").read_bytes()

    for length in (1, 7, 8, 9, 64, 500, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        (project.folder / f"weights.{suffix}").write_bytes(whole[:length])
        refused(project, SourceError, f"weights.{suffix}", "copy it again")


def test_a_checkpoint_needs_its_key_and_works_with_it(tiny_project: Make) -> None:
    project = tiny_project("")
    as_torch_file(project, {"epoch": 3, "state_dict": project.state(), "optimizer": {"lr": 0.1}})
    project.write_recipe("", weights="weights.pt")

    refused(project, SourceError, "weights.pt is a checkpoint", "'epoch' is no tensor", 'weights_key = "state_dict"')
    project.replace('weights = "weights.pt"', 'weights = "weights.pt"\nweights_key = "state_dic"')
    refused(project, SourceError, "model.weights_key", "no key 'state_dic'", "'state_dict'")
    project.replace("state_dic", "state_dict")
    assert build(project.folder).manifest.checks_passed


class RunsCode:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle 2", "pickle 4"])
def test_weights_that_want_to_run_code_are_refused_and_do_not_run(tiny_project: Make, tmp_path: Path, how: str) -> None:
    import torch

    project = tiny_project()
    marker = tmp_path / "it-ran"
    evil = {"classifier.bias": RunsCode(f"touch {marker}")}
    if how.startswith("pickle"):
        (project.folder / "weights.pt").write_bytes(pickle.dumps(evil, protocol=int(how[-1])))
    else:
        torch.save(evil, project.folder / "weights.pt", _use_new_zipfile_serialization=how == "torch")
    project.write_recipe(weights="weights.pt")

    message = refused(project, SourceError, "weights.pt", "state_dict()")

    assert "weights_only" not in message  # torch's advice to switch the guard off is not passed on
    assert "wants to run code" in message or how == "pickle 4"  # of which torch reads too little to tell
    assert not marker.exists()


def test_a_whole_saved_model_is_refused(tiny_project: Make) -> None:
    import torch

    project = tiny_project()
    as_torch_file(project, torch.nn.Linear(2, 2))

    refused(project, SourceError, "weights.pt", "state_dict()")


# --- The factory ----------------------------------------------------------------------------------------------------

FACTORY = "def make(classes=4):\n"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (
            f"{FACTORY}    raise ValueError('no such width')",
            SourceError,
            ["ValueError: no such width", "model.py, line"],
        ),
        (f"{FACTORY}    return 3", SourceError, ["returned a int, not a torch.nn.Module"]),
        ("def mak(): pass", SourceError, ["model has no function 'make'", "'mak'"]),
        ("x = 1 / 0", SourceError, ["importing model raised ZeroDivisionError", "model.py, line 1"]),
        ("def make(:", SourceError, ["importing model raised SyntaxError"]),
        (
            "import no_such_package_here",
            EnvironmentProblem,
            ["needs the package 'no_such_package_here'", "pip install"],
        ),
        (f"{FACTORY}    import no_such_package_here", SourceError, ["ModuleNotFoundError", "no_such_package_here"]),
    ],
    ids=["raises", "no-module", "missing", "import-raises", "syntax", "package", "late-package"],
)
def test_a_factory_that_fails_is_refused(
    tiny_project: Make, code: str, kind: type[EdgepackError], words: list[str]
) -> None:
    project = tiny_project()
    (project.folder / "model.py").write_text(code)

    refused(project, kind, "model.factory", *words)


def test_a_factory_module_that_is_not_there_is_refused(tiny_project: Make) -> None:
    project = tiny_project()
    (project.folder / "model.py").unlink()

    refused(project, SourceError, "model.factory: no module 'model'", str(project.folder))


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("return self.classifier(features.mean((2, 3)))", "return self.classifier(features.mean((2, 3))).argmax(1)", SourceError, ["returns torch.int64", "before argmax"]),
        ("return self.classifier(features.mean((2, 3)))", "return 'cat'", SourceError, ["returned a str", "return a tensor"]),
        ("return self.classifier(features.mean((2, 3)))", "return self.classifier(features.mean((2, 3)).flatten()[:7])", SourceError, ["refuses inputs of shape image [1, 1, 8, 8]", "model.py, line"]),
        ("features = self.stem(image)", "features = self.stem(image) if image.sum() > 0 else self.stem(-image)", UnsupportedError, ["torch.export can't trace", "data-dependent"]),
        ("return self.classifier(features.mean((2, 3)))", "return nn.functional.linear(features.mean((2, 3)), self.classifier.weight * 2)", UnsupportedError, ["linear", "computed in forward, not a parameter"]),
    ],
    ids=["integers", "text", "inner-shape", "control-flow", "computed-weight"],
)  # fmt: skip
def test_a_forward_that_can_not_be_exported_is_refused(
    tiny_project: Make, old: str, new: str, kind: type[EdgepackError], words: list[str]
) -> None:
    project = tiny_project()
    project.replace(old, new, file="model.py")

    refused(project, kind, *words)


def test_a_declared_input_that_the_model_does_not_take_is_refused(tiny_project: Make) -> None:
    project = tiny_project()
    project.replace("shape = [1, 8, 8]", "shape = [3, 8, 8]")

    refused(project, SourceError, "model.inputs", "image [1, 3, 8, 8]", "correct model.inputs")


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        ("nn.LeakyReLU()", ["LEAKY_RELU", "down/2"]),
        ("nn.ELU()", ["EXP", "down/2"]),
        ("nn.LayerNorm([4, 4])", ["down/2"]),
    ],
)
def test_an_operator_without_an_int8_form_is_named_with_its_place(
    tiny_project: Make, activation: str, words: list[str]
) -> None:
    project = tiny_project()
    project.replace("stride=2), nn.ReLU6())", f"stride=2), {activation})", file="model.py")
    if "LayerNorm" in activation:
        state = project.state()
        import torch

        project.write_state({**state, "down.2.weight": torch.ones(4, 4), "down.2.bias": torch.zeros(4, 4)})

    refused(project, UnsupportedError, *words)


# --- The data -------------------------------------------------------------------------------------------------------


def data_with(name: str = "evaluation", **arrays: Any) -> Break:
    return lambda project: project.write_data(name, **arrays)


X = np.zeros((32, 1, 8, 8), np.float32)
Y = np.zeros(32, np.int64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (data_with(y=np.full(32, 4)), ["data.evaluation", "label of sample 0 is 4", "4 classes"]),
        (data_with(y=np.full(32, -1)), ["data.evaluation", "label of sample 0 is -1"]),
        (data_with(y=Y.astype(float)), ["data.evaluation", "labels are float64", "integers"]),
        (data_with(y=Y[:31]), ["data.evaluation", "labels have shape (31,) for 32 samples"]),
        (lambda p: p.replace('y = "y"', ""), ["data.evaluation", "has no labels", 'y = "y"']),
        (lambda p: p.replace('y = "y"', 'y = "lables"'), ["data.evaluation", "no array 'lables'"]),
        (data_with(x=X[:0], y=Y[:0]), ["data.evaluation", "no samples are left"]),
        (data_with("train", x=X[:0]), ["data.", "no samples are left"]),
        (data_with(x=np.zeros((32, 3, 8, 8), np.float32)), ["data.evaluation", "needs shape (1, 8, 8)", "(3, 8, 8)"]),
        (data_with("train", x=np.zeros((48, 1, 9, 9), np.float32)), ["data.", "needs shape (1, 8, 8)", "(1, 9, 9)"]),
        (data_with(x=X.astype(np.uint8)), ["data.evaluation", "needs float32", "uint8", "to_float"]),
        (data_with(x=X.astype("U3")), ["data.evaluation", "array of <U3"]),
        (data_with("train", x=np.full((48, 1, 8, 8), np.nan, np.float32)), ["data.", "NaN or infinity"]),
        (lambda p: (p.folder / "evaluation.npz").unlink(), ["data.evaluation", "no such file"]),
        (lambda p: (p.folder / "evaluation.npz").write_bytes(b"PK\x03\x04 nothing"), ["data.evaluation", "not a readable .npz"]),
        (lambda p: p.replace("count = 12", "count = 1000"), ["data.calibration", "count = 1000", "48 samples"]),
        (lambda p: p.replace('y = "y"', f'y = "y"\nsha256 = "{"0" * 64}"'), ["data.evaluation", "sha256", "0000", "restore the files"]),
    ],
    ids=["label-high", "label-negative", "label-float", "label-count", "no-labels", "no-key", "empty", "empty-train", "channels",
         "size", "uint8", "text", "nan", "no-file", "damaged", "count", "checksum"],
)  # fmt: skip
def test_data_that_can_not_be_used_is_refused(tiny_project: Make, change: Break, words: list[str]) -> None:
    project = tiny_project()
    change(project)

    refused(project, DataError, *words)


# --- The machine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_without_space_is_told_before_anything_begins(tiny_project: Make, small_disk: Path) -> None:
    progress = Recorder()

    with pytest.raises(EnvironmentProblem, match=r"needs about 500 MB of free disk space and \d MB are left"):
        build(tiny_project().folder, work_folder=small_disk / "work", progress=progress)

    assert progress.started == []


def test_a_disk_that_fills_up_in_a_stage_is_told_clearly_and_leaves_nothing_half(
    tiny_project: Make, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tiny_project()
    work = small_disk / "work"
    (small_disk / "other").write_bytes(b"x" * (3 * 2**20 - 60_000))
    monkeypatch.setattr("edgepack.plan._SPACE_NEEDED_BYTES", 0)

    with pytest.raises(EnvironmentProblem, match="no space left on the disk; free some"):
        build(project.folder, work_folder=work)

    assert list((work / "stages").glob(".part-*")) == []
    (small_disk / "other").unlink()
    assert build(project.folder, work_folder=work).manifest.checks_passed


def test_a_file_in_place_of_the_work_folder_is_told(tiny_project: Make, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    with pytest.raises(EnvironmentProblem, match=r"taken: is a file, .*--work-dir"):
        build(tiny_project().folder, work_folder=tmp_path / "taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_work_folder_that_can_not_be_written_is_told(tiny_project: Make, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o500)

    with pytest.raises(EnvironmentProblem, match="can't be written"):
        build(tiny_project().folder, work_folder=tmp_path / "mine")


def test_a_machine_without_a_compiler_is_told_before_anything_begins(
    tiny_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    progress = Recorder()

    refused(tiny_project(), EnvironmentProblem, "no C++ compiler", "'c++' was not found", "g++", progress=progress)

    assert progress.started == []


def test_the_console_ends_with_the_errors_own_code_and_one_message(tiny_project: Make) -> None:
    project = tiny_project()
    project.replace('targets = ["arm64"]', 'targets = ["arm46"]')

    done = subprocess.run(
        [sys.executable, "-m", "edgepack", "build", "--recipe", str(project.folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == RecipeError.exit_code == 3
    assert "unknown target 'arm46' (did you mean 'arm64'?)" in done.stderr
    assert "Traceback" not in done.stderr
