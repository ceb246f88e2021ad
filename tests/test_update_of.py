"""A build that updates an older bundle keeps its grid, for real, on the small project."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import PTQ, QAT, Project

from edgepack.bundle import Bundle, read_bundle, write_bundle
from edgepack.bundle.code_places import code_places
from edgepack.bundle.join import join
from edgepack.bundle.update_base import read_base
from edgepack.core.digest import sha256_file
from edgepack.core.errors import RecipeError
from edgepack.pipeline import build
from edgepack.plan import make_plan
from edgepack.stages.compress import step_key

Built = Callable[[str], Project]
UPDATE = 'update_of = "base.edgepack"\n'


def updated(built_project: Built, tmp_path: Path, *, steps: str = PTQ, update_of: str = UPDATE) -> Project:
    """A fine-tuned model in a project of its own, with the bundle of the original beside it."""
    base = built_project(steps)
    project = base.copy(tmp_path / "project")
    (project.folder / "base.edgepack").write_bytes((base.folder / "dist" / "tiny-1.0.0-arm64.edgepack").read_bytes())
    rng = np.random.default_rng(3)
    state = project.state()
    for name, value in state.items():
        if value.dtype.is_floating_point and "running" not in name:
            value += 0.004 * value.std(correction=0) * value.new_tensor(rng.normal(size=tuple(value.shape)))
    project.write_state(state)
    project.write_recipe(steps)
    project.recipe.write_text(update_of + project.recipe.read_text())
    return project


def grid_of(bundle: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    grid = read_base(bundle, target="arm64").grid
    return dict(grid.activations), dict(grid.weights)


def codes_of(bundle: Bundle) -> dict[str, np.ndarray[Any, Any]]:
    """The int8 weights of a LiteRT file, by tensor name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bundle.read("model/model.tflite"))
    interpreter.allocate_tensors()
    details = [item for item in interpreter.get_tensor_details() if len(item["quantization_parameters"]["scales"]) > 1]
    return {item["name"]: interpreter.get_tensor(item["index"]) for item in details if item["dtype"] is np.int8}


@pytest.fixture(scope="module")
def update(built_project: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """A PTQ build that updates another one, and that one."""
    project = updated(built_project, tmp_path_factory.mktemp("update"))
    return build(project.folder), read_bundle(project.folder / "base.edgepack")


def share_changed(ours: Bundle, base: Bundle) -> float:
    new, old = codes_of(ours), codes_of(base)
    assert new.keys() == old.keys() and len(new) >= 4
    return sum(int((new[name] != old[name]).sum()) for name in old) / sum(codes.size for codes in old.values())


def test_an_update_has_the_grid_of_its_base_and_most_of_its_codes(update: tuple[Bundle, Bundle]) -> None:
    bundle, base = update

    assert grid_of(bundle.path) == grid_of(base.path)
    assert 0 < share_changed(bundle, base) < 0.3
    assert bundle.variant().checks_passed


@pytest.mark.slow
def test_training_leaves_the_grid_of_the_base(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path, steps=QAT)

    bundle = build(project.folder)

    base = read_bundle(project.folder / "base.edgepack")
    assert grid_of(bundle.path) == grid_of(base.path)
    assert 0 < share_changed(bundle, base) < 0.3
    assert bundle.variant().checks_passed


def test_the_scales_in_the_file_are_those_of_the_base_to_the_last_bit(update: tuple[Bundle, Bundle]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    def scales(bundle: Bundle) -> list[bytes]:
        interpreter = Interpreter(model_content=bundle.read("model/model.tflite"))
        details = [item for item in interpreter.get_tensor_details() if item["dtype"] is np.int8]
        assert len(details) > 8
        return [item["quantization_parameters"]["scales"].tobytes() for item in details]

    bundle, base = update
    assert scales(bundle) == scales(base)


def test_without_a_base_the_scales_differ(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path, update_of="")

    fitted = grid_of(build(project.folder).path)

    activations, weights = grid_of(project.folder / "base.edgepack")
    assert fitted[0].keys() == activations.keys() and fitted[1].keys() == weights.keys()
    assert all(fitted[1][name] != weights[name] for name in weights)


def test_an_update_says_what_it_updates_and_how_many_weights_are_cut(update: tuple[Bundle, Bundle]) -> None:
    bundle, base = update
    lineage: Any = bundle.variant().lineage

    digest = sha256_file(base.path)
    assert lineage["update_of"] == {"sha256": digest, "name": "tiny", "version": "1.0.0", "target": "arm64"}
    (step,) = lineage["steps"]
    assert step["update_of"] == digest
    assert 0 < step["clipped_weights"] < step["weights"] / 20


def test_the_grid_report_points_into_the_model_file(built_project: Built) -> None:
    bundle = read_bundle(built_project(PTQ).folder / "dist" / "tiny-1.0.0-arm64.edgepack")

    report = json.loads(bundle.read("reports/grid.json"))

    assert all(entry["file"] == "model.tflite" for entry in report["weights"].values())
    assert report["targets"] == ["arm64"]


def test_each_model_of_a_joined_bundle_can_be_the_base(update: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    _, base = update
    other = base.manifest.model_copy(
        update={"variants": (base.variant().model_copy(update={"target": "android-arm64"}),)}
    )
    files = {name: base.read(name) for name in base.names if name not in ("manifest.json", "bom.cdx.json")}
    write_bundle(tmp_path / "other.edgepack", manifest=other, files=files)

    both = join([base, read_bundle(tmp_path / "other.edgepack")], tmp_path / "both.edgepack")

    bases = [read_base(both, target=target) for target in ("arm64", "android-arm64", "intel")]
    assert [one.target for one in bases] == ["arm64", "android-arm64", "android-arm64"]
    assert all((dict(one.grid.activations), dict(one.grid.weights)) == grid_of(base.path) for one in bases)


def test_another_base_is_another_compression(
    built_project: Built, update: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    project = updated(built_project, tmp_path)
    first = make_plan(project.folder)
    (project.folder / "base.edgepack").write_bytes(update[0].path.read_bytes())

    second = make_plan(project.folder)

    keys = {step_key(plan, "loaded", *plan.steps[0]) for plan in (first, second)}
    assert len(keys) == 2


def test_a_base_that_is_missing_is_refused_while_planning(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)
    (project.folder / "base.edgepack").unlink()

    with pytest.raises(RecipeError, match=r"update_of: .*base\.edgepack: no such file"):
        make_plan(project.folder)


def test_a_base_without_a_grid_is_refused_while_planning(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)
    plain = built_project("").folder / "dist" / "tiny-1.0.0-arm64.edgepack"
    (project.folder / "base.edgepack").write_bytes(plain.read_bytes())

    with pytest.raises(RecipeError, match=r"has no reports/grid\.json: its model isn't quantized"):
        make_plan(project.folder)


def test_a_recipe_that_sets_no_grid_can_keep_none(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)
    project.replace(PTQ, "")

    with pytest.raises(RecipeError, match="no step of this recipe sets one; add"):
        make_plan(project.folder)


def test_a_target_that_cannot_take_the_grid_is_refused_while_planning(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)

    with pytest.raises(RecipeError, match=r"target 'gpu-tensorrt' needs symmetric .* made for arm64"):
        make_plan(project.folder, target="gpu-tensorrt")


def test_other_inputs_are_refused_while_planning(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)
    project.replace("shape = [1, 8, 8]", "shape = [1, 9, 8]")

    with pytest.raises(
        RecipeError, match="another architecture: it takes 'image' of 1×8×8, this model 'image' of 1×8×9"
    ):
        make_plan(project.folder)


def test_another_architecture_is_refused_before_any_training(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path)
    project.replace("WIDTH = 8", "WIDTH = 6", file="widths.py")
    project.replace('weights = "weights.safetensors"\n', "")

    with pytest.raises(RecipeError, match=r"its weight '.*' has the shape .* this model's"):
        build(project.folder)


def test_aligned_channels_and_a_base_exclude_each_other(built_project: Built, tmp_path: Path) -> None:
    project = updated(built_project, tmp_path, steps=PTQ)
    project.replace('mode = "ptq"', 'mode = "ptq"\nchannel_alignment = true')

    with pytest.raises(RecipeError, match=r"channel_alignment: moves scale .* leave one of them out"):
        build(project.folder)


@pytest.mark.slow
def test_a_weight_keeps_its_code_within_the_tolerance(
    built_project: Built, update: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    project = updated(built_project, tmp_path, update_of=UPDATE + "update_tolerance = 0.25\n")

    kept = build(project.folder)

    nearest, base = update
    assert grid_of(kept.path) == grid_of(base.path)
    assert share_changed(kept, base) < 0.5 * share_changed(nearest, base)
    new, old = codes_of(kept), codes_of(nearest)
    assert max(int(np.abs(new[name].astype(int) - old[name]).max()) for name in old) == 1


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (1, 2, 3, 0), (3, 1, 0, 2)])
@pytest.mark.parametrize("unsigned", [False, True])
def test_weights_are_found_in_a_file_in_any_order(order: tuple[int, ...], unsigned: bool, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (4, 3, 2, 5)).astype(np.int8)
    stored = weight.transpose(order).tobytes()
    file = tmp_path / "model.bin"
    file.write_bytes(b"head" + (bytes(byte ^ 0x80 for byte in stored) if unsigned else stored) + b"tail")

    place = code_places({"w": weight, "absent": weight[:, ::-1] ^ 1}, [file])

    assert place == {
        "w": {"file": "model.bin", "offset": 4, "order": list(order), **({"unsigned": True} if unsigned else {})}
    }


def test_the_codes_of_a_base_are_read_in_torchs_order(update: tuple[Bundle, Bundle]) -> None:
    _, base = update

    read = read_base(base.path, target="arm64")

    assert {name: codes.shape for name, codes in read.codes.items()} == dict(read.grid.shapes)
    lists = [sorted(codes.reshape(-1).tolist()) for codes in read.codes.values()]
    assert sorted(lists) == sorted(sorted(codes.reshape(-1).tolist()) for codes in codes_of(base).values())
