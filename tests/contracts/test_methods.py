"""What holds for every compression method: one line in the table is all it takes to be tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_project import Project

from edgepack.core.errors import RecipeError
from edgepack.core.section import validate
from edgepack.methods import METHODS
from edgepack.methods.protocol import Phase
from edgepack.pipeline import build, build_all
from edgepack.plan import make_plan
from edgepack.targets import load_target

# The shortest sensible use of each method. A new method needs a line here: options without a default, little training.
SHORT: dict[str, list[str]] = {
    "prune_entropy": [
        'sparsity = 0.3\nlevels = 15\nlevels_per = "channel"\n[compress.train]\nsteps = 12\nbatch_size = 8\nlearning_rate = 1e-3'
    ],
    "distill": [
        'factory = "student:small"\n[compress.train]\nsteps = 60\nbatch_size = 8\nlearning_rate = 0.02\n'
        'features = [{ first = "stem" }, { second = "down" }]'
    ],
    "prune_magnitude": ["sparsity = 0.3\n[compress.train]\nsteps = 4\nbatch_size = 8"],
    "prune_channels": [
        "sparsity = 0.1\nrounds = 2\n[compress.train]\nsteps = 12\nbatch_size = 8\nlearning_rate = 3e-3"
    ],
    "low_rank": ["keep = 0.7\n[compress.train]\nsteps = 12\nbatch_size = 8\nlearning_rate = 3e-3"],
    "palettize": ["bits = 4\n[compress.train]\nsteps = 6\nbatch_size = 8\nlearning_rate = 1e-3"],
    "sort_channels": [""],
    "compress_weights": ["bits = 4\ngroup_size = 8\nsymmetric = false\nscale_estimation = true\ngptq = true"],
    "quantize": [
        'mode = "ptq"',
        'mode = "qat"\n[compress.train]\nsteps = 4\nbatch_size = 8',
        'mode = "qat"\nweights_bits = 4\nint4_share = 0.9\n[compress.train]\nsteps = 4\nbatch_size = 8',
    ],
}
each_method = pytest.mark.parametrize("name", METHODS.names())
each_use = pytest.mark.parametrize(("name", "options"), [(name, o) for name in METHODS.names() for o in SHORT[name]])


def targets_of(name: str) -> list[str]:
    """The targets that can take what a method makes, of those with a runtime on every machine."""
    able = getattr(METHODS.load(name), "exporters", None)
    return [one for one in ("arm64", "intel", "x86_64") if able is None or load_target(one).exporter in able]


def steps(name: str, options: str) -> str:
    return f'[[compress]]\nmethod = "{name}"\n{options}\n'


@each_method
def test_a_method_loads_and_describes_its_options(name: str) -> None:
    method: Any = METHODS.load(name)

    assert method.__doc__
    assert all(field.description for field in method.model_fields.values())


@each_method
def test_a_method_refuses_an_unknown_option_with_the_nearest_name(
    name: str, tiny_project: Callable[..., Project]
) -> None:
    known = next(iter(METHODS.load(name).model_fields))
    project = tiny_project(steps(name, f"{known}x = 1"))

    with pytest.raises(
        RecipeError, match=rf"compress\.0 \({name}\): .*unknown key '{known}x' \(did you mean '{known}'\?\)"
    ):
        make_plan(project.folder)


@each_method
def test_a_method_is_documented(name: str, documented: Callable[[str], bool]) -> None:
    if not (documented("prune_magnitude") or documented("quantize")):
        pytest.skip("docs/methods.md is not written yet")
    assert documented(name)


@each_use
def test_a_methods_options_survive_a_round_through_json(
    name: str, options: str, tiny_project: Callable[..., Project]
) -> None:
    plan = make_plan(tiny_project(steps(name, options)).folder, target=targets_of(name)[0])
    ((_, method),) = plan.steps

    kind: Any = METHODS.load(name)
    assert validate(kind, method.model_dump(mode="json"), where="test") == method


@each_use
def test_a_model_after_a_method_exports_faithfully(
    name: str, options: str, tiny_project: Callable[..., Project], built_project: Callable[[str], Project]
) -> None:
    project = tiny_project(steps(name, options))
    project.take(built_project(""), "load", "baseline")  # the float model on arm64 is the same for all

    bundle = build(project.folder, target=targets_of(name)[0])

    checks = {check.name: check for check in bundle.variant().checks}
    assert all(check.passed for check in checks.values() if check.kind == "fidelity")
    assert checks["mean_steps"].value <= 0.75
    (compression,) = bundle.variant().lineage["compression"]  # type: ignore[misc, union-attr]
    assert compression["method"] == name  # type: ignore[index, call-overload]


@pytest.mark.slow
@each_use
def test_a_model_after_a_method_is_the_same_on_all_runtimes(
    name: str, options: str, tiny_project: Callable[..., Project]
) -> None:
    after = "" if METHODS.load(name).phase is Phase.GRID else steps("quantize", 'mode = "ptq"')
    targets = targets_of(name)

    made = build_all(
        tiny_project(steps(name, options) + after).folder,
        targets=targets,
        allow_failed_checks=True,
    )

    assert {row.runtime for row in made.parity.rows} >= {load_target(one).runtime for one in targets}
    assert made.parity.checks and all(check.passed for check in made.parity.checks)
    for bundle in made.bundles:
        assert all(check.passed for check in bundle.variant().checks if check.kind == "fidelity")


@each_use
def test_the_same_seed_gives_the_same_values_and_another_seed_others(
    name: str, options: str, tiny_project: Callable[..., Project]
) -> None:
    from edgepack.core.types import Silent
    from edgepack.stages.compress import compress
    from edgepack.stages.load import load
    from edgepack.store.cache import StageCache

    def values(folder: str, seed: int) -> bytes:
        project = tiny_project(name=folder)
        project.write_recipe(steps(name, options), seed=seed)
        plan = make_plan(project.folder, target=targets_of(name)[0])
        cache = StageCache(plan.work_folder)
        stored = compress(plan, cache, load(plan, cache, Silent()), Silent())
        return (stored.folder / "state.safetensors").read_bytes()

    first = values("first", 0)

    assert values("second", 0) == first
    if "train" in options:
        assert values("third", 1) != first


@each_method
def test_a_method_that_trains_says_so(name: str, tiny_project: Callable[..., Project]) -> None:
    for options in SHORT[name]:
        project = tiny_project(steps(name, options), name=str(np.random.default_rng().integers(1 << 30)))
        ((_, method),) = make_plan(project.folder, target=targets_of(name)[0]).steps
        assert method.needs_training_samples == ("train" in options)
