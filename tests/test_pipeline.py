"""The build, end to end and for real, on the small project."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import PRUNE_AND_QAT, PTQ, Building, Project, Recorder, copy_built

from edgepack.bench import BenchProtocol
from edgepack.core.errors import CheckFailed, UnsupportedError
from edgepack.core.types import QuantParams
from edgepack.pipeline import build
from edgepack.plan import make_plan
from edgepack.recipe import load_recipe
from edgepack.verified import verify

Make = Callable[..., Project]
Built = Callable[[str], Project]
JUDGED = {"outputs", "layers", "verify", "parity", "bundle"}  # what follows a new artifact


@pytest.fixture(scope="module")
def pruned(built_project: Built) -> Project:
    """A build with pruning and QAT, to read only."""
    return built_project(PRUNE_AND_QAT)


@pytest.fixture
def ready(built_project: Built, tmp_path: Path) -> Project:
    """A finished build with PTQ, to change."""
    project = copy_built(built_project(PTQ), tmp_path / "project")
    build(project.folder)  # in a new place the model is loaded once to see what it imports; nothing else is done
    return project


def stage(project: Project, name: str) -> Path:
    found = sorted((project.work / "stages").glob(f"{name}-*"))
    assert len(found) == 1, found
    return found[0]


def rebuilt(project: Project, **options: Any) -> set[str]:
    """The stages that a build made anew, by name."""
    before = project.stages()
    build(project.folder, **options)
    return {name.rpartition("-")[0] for name, identity in project.stages().items() if before.get(name) != identity}


def test_a_build_gives_a_bundle_whose_golden_samples_pass(pruned: Project) -> None:
    bundle = pruned.folder / "dist" / "tiny-1.0.0-arm64.edgepack"

    result = verify(bundle)

    assert result.passed
    assert len(result.golden) == 1
    manifest = result.bundle.variant()
    assert manifest.checks_passed
    assert {check.name for check in manifest.checks} >= {"top1_agreement", "mean_steps", "max_steps", "drop_points"}
    assert manifest.metric is not None and manifest.metric.float_value == 1.0
    assert [item.shape for item in manifest.inputs] == [(1, 1, 8, 8)]
    assert manifest.model.precision == "int8"


def test_the_same_recipe_in_two_places_gives_the_same_bytes(pruned: Project, tmp_path: Path) -> None:
    other = pruned.copy(tmp_path / "elsewhere")

    bundle = build(other.folder, work_folder=tmp_path / "work", dist_folder=tmp_path / "out")

    first = pruned.folder / "dist" / bundle.path.name
    assert bundle.path.read_bytes() == first.read_bytes()
    theirs = next((tmp_path / "work" / "stages").glob("export-*")) / "model.tflite"
    assert theirs.read_bytes() == (stage(pruned, "export") / "model.tflite").read_bytes()


def test_a_second_build_runs_no_stage(ready: Project) -> None:
    progress = Recorder()

    made = rebuilt(ready, progress=progress)

    assert (progress.started, made) == ([], set())


def test_a_build_with_nothing_to_do_loads_no_heavy_library(ready: Project) -> None:
    building = Building(ready)
    building.end()

    assert building.started == []
    assert not building.modules & {"torch", "nncf", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "scipy"}


def test_a_bundle_that_was_deleted_comes_back_without_any_stage(ready: Project) -> None:
    bundle = ready.folder / "dist" / "tiny-1.0.0-arm64.edgepack"
    content = bundle.read_bytes()
    bundle.unlink()

    assert rebuilt(ready) == set()
    assert bundle.read_bytes() == content


def test_an_option_of_the_last_step_reruns_that_step_and_what_follows(ready: Project) -> None:
    ready.replace('mode = "ptq"', 'mode = "ptq"\nrange_estimator = "minmax"')

    assert rebuilt(ready) == {"quantize", "export", *JUDGED}


def test_the_last_step_is_tried_anew_without_the_earlier_ones(pruned: Project, tmp_path: Path) -> None:
    project = copy_built(pruned, tmp_path / "project")
    assert rebuilt(project) == set()
    project.recipe.write_text(project.recipe.read_text()[::-1].replace("8 = spets", "9 = spets", 1)[::-1])
    progress = Recorder()

    made = rebuilt(project, progress=progress)

    assert made == {"quantize", "export", *JUDGED}
    assert not any(what.startswith("Pruning") for what in progress.started)


def test_other_evaluation_samples_rerun_the_judgement_only(ready: Project) -> None:
    data = ready.data()
    ready.write_data(x=data["x"][::-1], y=data["y"][::-1])

    assert rebuilt(ready) == {"check", *JUDGED}


def test_other_label_names_rerun_the_bundle_only(ready: Project) -> None:
    ready.replace('"a", "b", "c", "d"', '"north", "east", "south", "west"')

    assert rebuilt(ready) == {"bundle"}


def test_a_labels_file_that_changes_reruns_the_bundle(tiny_project: Make) -> None:
    project = tiny_project("")
    project.replace('labels = ["a", "b", "c", "d"]', 'labels = "labels.txt"')
    (project.folder / "labels.txt").write_text("a\nb\nc\nd\n")
    build(project.folder)
    (project.folder / "labels.txt").write_text("e\nf\ng\nh\n")

    assert rebuilt(project) == {"bundle"}
    assert build(project.folder).manifest.labels == ("e", "f", "g", "h")


def test_other_calibration_samples_rerun_what_measures_ranges(ready: Project) -> None:
    ready.replace("count = 12", "count = 11")

    assert "load" not in (made := rebuilt(ready))
    assert {"quantize", "export"} <= made


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("model.py", "return Tiny(classes)", "return  Tiny(classes)"), ("widths.py", "WIDTH = 8", "WIDTH = 4 + 4")],
)
def test_code_of_the_model_or_of_a_module_it_imports_reruns_everything(
    ready: Project, file: str, old: str, new: str
) -> None:
    ready.replace(old, new, file=file)

    assert {"load", "baseline", "quantize", "export", *JUDGED} == rebuilt(ready)


def test_code_that_changes_between_builds_of_one_process_is_read_again(ready: Project) -> None:
    ready.replace("features.mean((2, 3))", "features.amax((2, 3))", file="model.py")

    with pytest.raises(UnsupportedError, match="REDUCE_MAX"):
        build(ready.folder)


def test_a_helper_is_remembered_after_other_projects_in_the_same_process(tiny_project: Make, tmp_path: Path) -> None:
    first, second = tiny_project("", name="first"), tiny_project("", name="second")
    second.replace("WIDTH = 8", "WIDTH = 7 + 1", file="widths.py")

    for project in (first, second):
        build(project.folder)
        known = json.loads(next((project.work / "dependencies").glob("*.json")).read_text())
        assert set(known) == {str(project.folder / "model.py"), str(project.folder / "widths.py")}


def test_other_weights_rerun_everything(ready: Project) -> None:
    state = ready.state()
    state["classifier.bias"] += 0.001
    ready.write_state(state)

    assert {"load", "baseline", "quantize", "export", *JUDGED} == rebuilt(ready)


def test_pruned_weights_are_zero_in_the_file_and_only_they(pruned: Project) -> None:
    network = Network.read(pruned)
    file = File.read(pruned)

    for name, mask in network.masks().items():
        codes = file.codes_of(network.layer(name))
        assert 0.45 < float((~mask).mean()) < 0.55, name
        assert (codes[~mask] == 0).all(), name
    assert set(network.masks()) == {layer.name for layer in network.program.layers}


def test_the_files_weight_codes_and_scales_are_those_of_the_folded_network(pruned: Project) -> None:
    network = Network.read(pruned)
    file = File.read(pruned)

    assert len(network.program.layers) == 5
    for layer in network.program.layers:
        assert layer.params is not None and layer.codes is not None
        assert np.array_equal(file.codes_of(layer), layer.codes), layer.name
        expected = np.broadcast_to(np.float32(layer.params.scale), (layer.codes.shape[0],))
        assert np.array_equal(file.weight_scales_of(layer), expected), layer.name


def test_the_files_activations_have_the_learned_grid(pruned: Project) -> None:
    network = Network.read(pruned)
    file = File.read(pruned)
    tensors = json.loads((stage(pruned, "export") / "export.json").read_text())["tensors"]

    assert {item["op"] for item in tensors.values()} == set(network.program.activations)
    for name, item in tensors.items():
        learned = network.program.activations[item["op"]]
        assert file.params[name].scale == (float(np.float32(learned.scale[0])),)
        assert file.params[name].zero_point == learned.zero_point


def test_an_artifact_may_take_and_give_float(tiny_project: Make) -> None:
    bundle = build(tiny_project(extra='[export]\nio_dtype = "float32"').folder)

    manifest = bundle.variant()
    assert [item.dtype for item in (*manifest.inputs, *manifest.outputs)] == ["float32", "float32"]
    assert all(item.quantization is None for item in manifest.inputs)
    assert verify(bundle.path).passed


def test_an_artifact_may_take_images_with_channels_last(built_project: Built, tiny_project: Make) -> None:
    bundle = build(tiny_project(extra='[export]\nio_layout = "NHWC"').folder)

    manifest = bundle.variant()
    assert manifest.inputs[0].shape == (1, 8, 8, 1)
    assert manifest.inputs[0].layout == "NHWC"
    assert verify(bundle.path).passed
    plain = verify(built_project(PTQ).folder / "dist" / bundle.path.name).bundle.variant()
    assert plain.metric is not None and manifest.metric is not None
    assert plain.metric.value == manifest.metric.value


def test_a_recipe_without_compression_bundles_the_float_model(tiny_project: Make) -> None:
    bundle = build(tiny_project("").folder)

    assert bundle.variant().model.precision == "float32"
    assert bundle.variant().metric is not None and bundle.variant().metric.value == 1.0
    assert verify(bundle.path).passed


def test_a_factory_may_return_a_bare_sequential(tiny_project: Make) -> None:
    project = tiny_project(PRUNE_AND_QAT)
    project.replace(
        "return Tiny(classes)",
        "return nn.Sequential(nn.Flatten(), nn.Linear(64, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4))",
        file="model.py",
    )
    project.replace('weights = "weights.safetensors"', "")
    project.replace("drop_points = 40.0", "drop_points = 100.0")

    assert build(project.folder).variant().model.precision == "int8"


def test_a_recipe_made_in_python_builds_too(ready: Project, tmp_path: Path) -> None:
    recipe = load_recipe(ready.recipe)
    ready.recipe.unlink()

    bundle = build(recipe, folder=ready.folder, dist_folder=tmp_path / "out")

    assert bundle.path == tmp_path / "out" / "tiny-1.0.0-arm64.edgepack"
    assert verify(bundle.path).passed


def test_a_failed_check_stops_the_build_and_bundles_nothing(ready: Project) -> None:
    (ready.folder / "dist" / "tiny-1.0.0-arm64.edgepack").unlink()
    ready.replace("[budget]", "[budget]\nsize_bytes = 1000")

    with pytest.raises(CheckFailed, match=r"budget: size_bytes = \S+ is above its limit 1000") as caught:
        build(ready.folder)

    assert caught.value.exit_code == 8
    assert [file.name for file in (ready.folder / "dist").iterdir()] == ["tiny-1.0.0-arm64.failed.json"]

    ready.replace("size_bytes = 1000", "size_bytes = 1000000")
    build(ready.folder)
    assert [file.name for file in (ready.folder / "dist").iterdir()] == ["tiny-1.0.0-arm64.edgepack"]


def test_a_failed_check_can_be_bundled_marked_as_failed(ready: Project) -> None:
    ready.replace("[budget]", "[budget]\nsize_bytes = 1000")

    bundle = build(ready.folder, allow_failed_checks=True)

    assert bundle.manifest.checks_passed is False
    assert [check.name for check in bundle.variant().checks if not check.passed] == ["size_bytes"]


def test_lost_fidelity_names_the_first_layer_that_diverges(ready: Project) -> None:
    from edgepack.core.types import Check
    from edgepack.stages.verify import Verification, failure_report

    layers = tuple(_compared(ready, damaged="block.3.weight"))
    lost = Check(kind="fidelity", name="max_steps", value=12.0, limit=8.0, direction="max", samples=32)
    too_large = Check(kind="budget", name="size_bytes", value=2.0, limit=1.0, direction="max")
    facts: dict[str, Any] = {"key": "", "folder": ready.folder, "accuracy": {}, "also": {}, "accuracy_ci95": (0.0, 1.0)}
    facts |= {"samples": 32, "layers": layers, "notes": (), "output_steps": ()}

    said = failure_report(Verification(checks=(lost, too_large), **facts))
    assert re.search(r"first layer to diverge: block/4\S* \(tensor '.+'\), -?[\d.]+ dB", said)
    assert "diverge" not in failure_report(Verification(checks=(too_large,), **facts))


def test_the_layer_that_was_damaged_is_the_one_that_is_named(ready: Project) -> None:
    from edgepack.stages.divergence import first_divergence

    samples = _compared(ready, damaged="block.3.weight")

    layer = first_divergence(samples)
    assert layer is not None and layer.operation.startswith("block/4")


def test_measured_limits_become_checks(tiny_project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = partial(BenchProtocol, repetitions=2, warmup_min_s=0, warmup_max_s=0, duration_min_s=0)
    monkeypatch.setattr("edgepack.pipeline.BenchProtocol", brief)  # the usual one takes 20 s
    project = tiny_project("")
    project.replace("[budget]", "[budget]\nlatency_p50_ms = 1000\npeak_memory_bytes = 10_000_000_000")

    checks = {check.name: check for check in build(project.folder).variant().checks}

    assert 0 < checks["latency_p50_ms"].value < 1000
    assert checks["peak_memory_bytes"].value > 1_000_000
    assert rebuilt(project) == set()


def test_qat_ranges_keep_an_exact_zero(built_project: Built) -> None:
    from nncf.torch.quantization.layers import AsymmetricQuantizer

    network = Network.read(built_project(PRUNE_AND_QAT)).model.network

    for quantizer in (m for m in network.modules() if isinstance(m, AsymmetricQuantizer)):
        low, high = (float(end.detach()) for end in quantizer.get_input_low_input_high())
        half_step = (high - low) / 510
        assert low == 0 or abs(low) > half_step
        assert high == 0 or abs(high) > half_step


class Network:
    """The compressed network of a finished build, and the folded program that was exported."""

    def __init__(self, model: Any) -> None:
        from edgepack.network.fold import program_of

        self.model = model
        self.program = program_of(model)

    @classmethod
    def read(cls, project: Project) -> Network:
        from edgepack.stages.load import Stored

        plan = make_plan(project.folder)
        return cls(Stored(key="", folder=stage(project, "quantize")).open(plan))

    def layer(self, name: str) -> Any:
        return next(layer for layer in self.program.layers if layer.name == name)

    def masks(self) -> dict[str, Any]:
        from nncf.torch.function_hook.pruning.magnitude.modules import UnstructuredPruningMask
        from nncf.torch.function_hook.wrapper import get_hook_storage

        hooks = get_hook_storage(self.model.network).named_hooks()
        return {
            name.removeprefix("post_hooks.").rpartition("__")[0].replace(":", "."): hook.binary_mask.numpy()
            for name, hook in hooks
            if isinstance(hook, UnstructuredPruningMask)
        }


class File:
    """The weights and grids in an int8 .tflite."""

    def __init__(self, content: bytes) -> None:
        from edgepack.exporters.litert_graph import read_graph

        self.model, self.graph = read_graph(content)
        self.tensors = self.model.subgraphs[0].tensors
        self.params = {
            tensor.name.decode(): QuantParams(
                scale=tuple(float(value) for value in tensor.quantization.scale),
                zero_point=tuple(int(value) for value in tensor.quantization.zeroPoint),
            )
            for tensor in self.tensors
            if tensor.quantization is not None and tensor.quantization.scale is not None
        }

    @classmethod
    def read(cls, project: Project) -> File:
        return cls((stage(project, "export") / "model.tflite").read_bytes())

    def codes_of(self, layer: Any) -> np.ndarray:
        """The layer's codes in the file, in torch's order of dimensions."""
        return self._find(layer)[1]

    def weight_scales_of(self, layer: Any) -> np.ndarray:
        return np.asarray(self.tensors[self._find(layer)[0]].quantization.scale, np.float32)

    def _find(self, layer: Any) -> tuple[int, np.ndarray]:
        shape = layer.codes.shape
        for operator in self.graph.operators:
            if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                continue
            codes = self.graph.constants[operator.inputs[1]]
            if codes.ndim == 4:
                codes = (
                    codes.transpose(3, 0, 1, 2) if operator.kind == "DEPTHWISE_CONV_2D" else codes.transpose(0, 3, 1, 2)
                )
            codes = codes.reshape(shape) if codes.size == layer.codes.size and codes.ndim == len(shape) else codes
            # Layers of one shape are told apart by their scales.
            scale = np.asarray(self.tensors[operator.inputs[1]].quantization.scale, np.float32)
            if codes.shape == shape and np.allclose(scale, np.float32(layer.params.scale), rtol=1e-6):
                return operator.inputs[1], codes
        raise AssertionError(f"{layer.name} is not in the file")


def _compared(project: Project, *, damaged: str) -> list[Any]:
    """The layers of the artifact beside a network with one weight changed."""
    import torch

    from edgepack.runtimes.litert import LiteRT
    from edgepack.stages.divergence import compare_layers
    from edgepack.stages.export import _params
    from edgepack.stages.samples import samples_of

    plan = make_plan(project.folder)
    network = Network.read(project)
    with torch.no_grad():
        network.model.network.get_parameter(damaged)[:] = network.model.network.get_parameter(damaged).flip(0)
    tensors = json.loads((stage(project, "export") / "export.json").read_text())["tensors"]
    few = samples_of(plan, plan.evaluation).take(slice(0, 4))
    return compare_layers(
        network.model,
        LiteRT().open(stage(project, "export") / "model.tflite", keep_tensors=True),
        {name: (item["op"], _params(item["params"])) for name, item in tensors.items()},
        few,
        dict(few.inputs),
    )
