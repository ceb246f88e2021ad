"""`.pt2` files: what they say without torch, and what is refused before anything is built."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_project import Project
from torch import nn

from edgepack.core.errors import SourceError
from edgepack.plan import make_plan
from edgepack.recipe import InputSection, ModelSection
from edgepack.sources import open_source
from edgepack.sources.protocol import Source
from sources.model_files import trained, use_file, write_pt2


class Chat(nn.Module):
    """Token ids and features; a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor, features: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = self.linear(self.table(tokens).mean(1) + features.mean(1))
        return {"scores": seen, "sure": seen.sigmoid()}


def source(path: Path, *inputs: InputSection) -> Source:
    return open_source(ModelSection(file=path.name, inputs=inputs), path.parent)


def chat(folder: Path, name: str = "chat.pt2", features: dict[int, Any] | None = None) -> Path:
    path = folder / name
    example = (torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 6, 4))
    shapes = {"tokens": {0: torch.export.Dim.DYNAMIC}, "features": {0: torch.export.Dim.DYNAMIC, **(features or {})}}
    torch.export.save(torch.export.export(Chat().eval(), example, dynamic_shapes=shapes), path)
    return path


def open_chat(folder: Path) -> Path:
    """With one more dimension of any size."""
    return chat(folder, "open.pt2", features={1: torch.export.Dim("n", max=9)})


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> Path:
    """The archive with every file changed."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in {**content, **more}.items():
            if (changed := change(name, data)) is not None:
                new.writestr(name, changed)
    return path


def described(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The archive with another description of the program."""

    def edit(name: str, data: bytes) -> bytes:
        if "/models/" not in name:
            return data
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return rewritten(path, edit)


def test_names_shapes_types_and_layouts_come_from_the_file(tmp_path: Path) -> None:
    image = tmp_path / "image.pt2"
    torch.export.save(torch.export.export(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),)), image)

    tokens, features = source(chat(tmp_path)).inputs()

    assert (tokens.name, tokens.shape, tokens.dtype, tokens.layout) == ("tokens", (5,), "int64", "any")
    assert (features.name, features.shape, features.dtype, features.layout) == ("features", (6, 4), "float32", "any")
    assert source(image).inputs()[0].layout == "CHW"


def test_the_recipe_renames_inputs_and_bounds_open_sizes(tmp_path: Path) -> None:
    path = open_chat(tmp_path)
    ids, seen = InputSection(name="ids", shape=(5,)), InputSection(name="seen", shape=(7, 4))

    first, second = source(path, ids, seen).inputs()

    assert (first.name, first.dtype, second.name, second.shape) == ("ids", "int64", "seen", (7, 4))


def test_an_open_size_without_a_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"open\.pt2: input 'features' has shape \[.*at most 9.*\[\[model\.inputs\]\]"
    ):
        source(open_chat(tmp_path)).inputs()


def test_inputs_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    path = chat(tmp_path)
    ids = InputSection(name="ids", shape=(5,))

    with pytest.raises(SourceError, match=r"has 2 inputs \(tokens .*\) and the recipe 1"):
        source(path, ids).inputs()
    with pytest.raises(SourceError, match=r"'features' has shape .* and model\.inputs says \[4, 6\]"):
        source(path, ids, InputSection(name="x", shape=(4, 6))).inputs()
    with pytest.raises(SourceError, match=r"'tokens' is int64, and model\.inputs says float32"):
        source(
            path, InputSection(name="ids", shape=(5,), dtype="float32"), InputSection(name="x", shape=(6, 4))
        ).inputs()


def test_a_model_of_two_inputs_loads_with_its_own_output_names(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    opened = source(open_chat(tmp_path), InputSection(name="ids", shape=(5,)), InputSection(name="seen", shape=(7, 4)))

    model, code = opened.load(tmp_path / "scratch")

    assert code == ()
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [
        ("ids", (1, 5), "int64"),
        ("seen", (1, 7, 4), "float32"),
    ]
    assert [spec.name for spec in model.outputs] == ["scores", "sure"]
    again = opened.builder(tmp_path / "scratch")()
    assert list(again.state_dict()) == list(model.network.state_dict())


def test_a_plan_of_a_program_loads_no_torch(tiny_project: Callable[..., Project]) -> None:
    import subprocess
    import sys

    project = tiny_project()
    use_file(project, "torch_export")
    code = f"import sys; from pathlib import Path; from edgepack.plan import make_plan; p = make_plan(Path({str(project.folder)!r})); print(p.inputs[0].name, 'torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout

    assert said.split() == ["image", "False"]


# --- Bad input ------------------------------------------------------------------------------------------------------


def test_a_truncated_file_is_refused_at_plan_time(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    file = use_file(project, "torch_export")
    for size in (
        file.stat().st_size // 2,
        file.stat().st_size - 2000,
    ):  # the second ends behind a ZIP file within the ZIP file
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(SourceError, match=r"model\.pt2: .*truncated"):
            make_plan(project.folder)
        write_pt2(trained(project), file)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = chat(tmp_path)
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("chat/data/weights/weight_0")
    content = path.read_bytes()
    assert content.count(weights) == 1
    path.write_bytes(content.replace(weights, bytes([weights[0] ^ 1]) + weights[1:]))

    with pytest.raises(SourceError, match=r"chat\.pt2: .*damaged.*copy it again|chat\.pt2: is truncated"):
        source(path).inputs()


def test_a_file_of_weights_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt2"
    torch.save(nn.Linear(2, 2).state_dict(), path)

    with pytest.raises(SourceError, match=r"no program of torch\.export.*torch\.export\.save"):
        source(path).inputs()


def test_another_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    def older(content: dict[str, Any]) -> None:
        content["schema_version"]["major"], content["torch_version"] = 5, "2.4.0"

    with pytest.raises(SourceError, match=r"written by torch 2\.4\.0 \(schema 5, this one reads 8\); export it again"):
        source(described(chat(tmp_path), older)).inputs()


def test_a_description_that_torch_refuses_is_told(tmp_path: Path) -> None:
    def unknown(content: dict[str, Any]) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.no_such_operation.default"

    with pytest.raises(SourceError, match=r"chat\.pt2: torch can't read this program"):
        source(described(chat(tmp_path), unknown)).load(tmp_path)


def test_a_program_that_was_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.pt2"
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 4, 4),)), path)

    with pytest.raises(SourceError, match=r"evaluation mode|model\.eval\(\)"):
        source(path).load(tmp_path)


def test_a_program_for_several_samples_is_refused_at_plan_time(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project()
    write_pt2(trained(project), use_file(project, "torch_export"), batch=4)

    with pytest.raises(SourceError, match=r"input 'image' is made for exactly 4 samples at once"):
        make_plan(project.folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types_of_floats_are_refused_at_plan_time(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 2).to(dtype), (torch.zeros(1, 4, dtype=dtype),)), path)

    with pytest.raises(SourceError, match=rf"'input' is {str(dtype).partition('.')[2]}; edgepack takes float32"):
        source(path).inputs()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    network = nn.Linear(4, 2)
    with torch.no_grad():
        network.weight[0, 0] = float("nan")
    torch.export.save(torch.export.export(network, (torch.zeros(1, 4),)), path)

    with pytest.raises(SourceError, match=r"'linear_0\.weight' has 1 values that are NaN|'weight.*NaN"):
        source(path).load(tmp_path)


def test_integer_outputs_are_refused(tmp_path: Path) -> None:
    class Best(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).argmax(1)

    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Best(4, 2), (torch.zeros(1, 4),)), path)

    with pytest.raises(SourceError, match=r"returns torch\.int64; return the scores before argmax"):
        source(path).load(tmp_path)


class _Trap:
    """What would leave a mark if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_a_program_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    trap = pickle.dumps(_Trap(mark))

    def as_sample(name: str, data: bytes) -> bytes:
        return trap if "/sample_inputs/" in name else data

    def as_size(content: dict[str, Any]) -> None:
        values = content["graph_module"]["graph"]["tensor_values"]
        values["tokens"]["sizes"][0]["as_expr"]["expr_str"] = f"open({str(mark)!r}, 'w').fileno()"

    with pytest.raises(SourceError, match=r"sample_inputs.* wants to run code"):
        source(rewritten(chat(tmp_path), as_sample)).load(tmp_path)
    with pytest.raises(SourceError, match=r"opaque_obj_0, which could run code"):
        source(rewritten(chat(tmp_path), lambda name, data: data, **{"chat/data/constants/opaque_obj_0": trap})).load(
            tmp_path
        )
    with pytest.raises(SourceError, match=r"is no plain expression"):
        source(described(chat(tmp_path), as_size)).load(tmp_path)
    assert not mark.exists()
