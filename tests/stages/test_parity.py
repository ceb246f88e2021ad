"""A build for several targets: trained once, evaluated on the same bytes, compared in one table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import PTQ, Project, Recorder, copy_built

from edgepack.bundle import read_bundle
from edgepack.bundle.join import join
from edgepack.core.errors import CheckFailed
from edgepack.diff import diff
from edgepack.pipeline import BuildResult, build_all
from edgepack.plan import make_plans
from edgepack.stages.outline import outline
from edgepack.store.cache import StageCache
from edgepack.targets import SHIPPED
from edgepack.verified import verify

TARGETS = ("arm64", "intel", "x86_64")


@pytest.fixture(scope="module")
def project(built_project: Callable[[str], Project], tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_built(built_project(PTQ), tmp_path_factory.mktemp("parity") / "project")


@pytest.fixture(scope="module")
def result(project: Project) -> BuildResult:
    return build_all(project.folder, targets=TARGETS, allow_failed_checks=True)


def test_one_bundle_for_each_target_and_one_training_for_all(project: Project, result: BuildResult) -> None:
    assert [bundle.variant().target for bundle in result.bundles] == list(TARGETS)
    assert len(list((project.work / "stages").glob("quantize-*"))) == 1


def test_the_table_has_the_original_the_compressed_network_and_every_runtime(result: BuildResult) -> None:
    rows = {row.name: row for row in result.parity.rows}

    assert list(rows)[:2] == ["float", "compressed (arm64, intel, x86_64)"]
    assert {row.target for row in rows.values() if row.judged and row.kind == "runtime"} == set(TARGETS)
    for row in rows.values():
        assert 0 <= row.metric_ci95[0] <= row.metric <= row.metric_ci95[1] <= 1
        assert (row.agreement is None) == (row.kind != "runtime")


def test_runtimes_of_one_grid_say_nearly_the_same(result: BuildResult) -> None:
    judged = [pair for pair in result.parity.pairs if pair.judged]

    assert len(judged) == 3
    for pair in judged:
        assert pair.same_grid
        assert pair.mean_steps <= 0.75
        assert pair.agreement >= 0.9  # 32 samples
    assert {check.name for check in result.parity.checks} == {
        "top1_agreement",
        "metric_difference_points",
        "mean_steps",
    }


def test_every_bundle_has_the_table_and_its_checks(result: BuildResult) -> None:
    table = json.loads(result.parity.file.read_text())

    for bundle in result.bundles:
        assert json.loads(bundle.read("reports/parity.json")) == table
        assert "## Parity" in bundle.read("reports/verify.md").decode()
        assert [check.name for check in bundle.variant().checks if check.kind == "parity"] == [
            check.name for check in result.parity.checks
        ]


def test_all_models_saw_the_same_bytes(project: Project, result: BuildResult) -> None:
    cache = StageCache(project.work)
    digests = {cache.facts(entry.folder)["inputs_sha256"] for entry in cache.entries() if entry.stage == "outputs"}

    assert digests == {result.parity.inputs_sha256}


def test_a_second_build_for_all_targets_does_nothing(project: Project, result: BuildResult) -> None:
    progress = Recorder()

    build_all(project.folder, targets=TARGETS, allow_failed_checks=True, progress=progress)

    assert progress.started == []


def test_the_outline_knows_what_is_done(project: Project, result: BuildResult) -> None:
    stages = outline(make_plans(project.folder, targets=TARGETS), StageCache(project.work))

    assert all(stage.is_done for stage in stages)
    (training,) = [stage for stage in stages if stage.stage == "quantize"]
    assert training.targets == TARGETS
    assert training.last_seconds is not None and training.last_seconds > 0


def test_the_outline_of_a_new_project_knows_what_will_be_shared(tiny_project: Callable[..., Project]) -> None:
    folder = tiny_project().folder
    (folder / "targets").mkdir()
    arm = (SHIPPED / "arm64.toml").read_text().partition("[quantization.fixed_output_ranges]")[0]
    symmetric = arm.replace("activations_symmetric = false", "activations_symmetric = true")
    (folder / "targets" / "symmetric.toml").write_text(symmetric)
    plans = make_plans(folder, targets=(*TARGETS, "symmetric"))
    stages = outline(plans, StageCache(plans[0].work_folder))

    assert not any(stage.is_done for stage in stages)
    assert [stage.targets for stage in stages if stage.stage == "quantize"] == [TARGETS, ("symmetric",)]
    assert plans[3].apart_because.startswith("symmetric needs symmetric (zero point 0) activations")


def test_runtimes_that_part_too_far_stop_the_build(
    tiny_project: Callable[..., Project], project: Project, result: BuildResult
) -> None:
    strict = Path(project.folder / "edgepack.toml").read_text() + "\n[parity]\nmean_steps_max = 1e-9\n"
    (project.folder / "strict.toml").write_text(strict)

    with pytest.raises(CheckFailed, match=r"parity: mean_steps = .* edgepack diff") as caught:
        build_all(project.folder / "strict.toml", targets=TARGETS)

    assert caught.value.parity is not None and caught.value.parity.is_file()


def test_the_bundles_of_a_build_join_into_one_that_runs_right_in_every_runtime(
    result: BuildResult, tmp_path: Path
) -> None:
    joined = read_bundle(join(result.bundles, tmp_path / "joined.edgepack"))

    proven = verify(joined.path)

    assert [one.target for one in proven.variants] == list(TARGETS)
    assert all(one.golden and not one.not_run for one in proven.variants)
    assert proven.passed
    assert {"golden/raw.npy", "reports/parity.json", "labels.txt", "recipe.toml", "bom.json"} <= set(joined.names)
    assert {name.partition("/")[2] for name in joined.names if name.startswith("intel/")} >= {
        "model/model.xml",
        "golden/input_0.npy",
        "reports/verify.json",
        "provenance.json",
    }
    assert joined.path.stat().st_size < sum(bundle.path.stat().st_size for bundle in result.bundles)

    parted = diff(joined.path, joined.path, targets=("arm64", "intel"), samples=2)
    assert parted.tensors and (parted.a.endswith("arm64 (litert)"), parted.b.endswith("intel (openvino)")) == (
        True,
        True,
    )
