"""16-bit activations are asked for in the recipe, and refused at plan time where they can't be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_project import Project

from edgepack.core.errors import RecipeError
from edgepack.plan import make_plan, make_plans
from edgepack.targets import load_target, target_names

WIDE = '[[compress]]\nmethod = "quantize"\nmode = "ptq"\nactivations_bits = 16\n'


def test_the_plan_has_the_targets_numbers_for_16_bits_and_floats_at_the_border(
    tiny_project: Callable[..., Project],
) -> None:
    plans = make_plans(tiny_project(WIDE).folder, targets=("arm64", "android-arm64"))

    for plan in plans:
        assert (plan.constraints.activations_bits, plan.constraints.activations_symmetric) == (16, True)
        assert plan.constraints.fixed_output_ranges["sigmoid"] == (-1.0, 1 - 2**-15)
        assert plan.exporter.options.io_dtype == "float32"  # type: ignore[attr-defined]
        assert plan.grid_targets == ("arm64", "android-arm64")


def test_only_targets_that_say_so_have_such_kernels() -> None:
    able = [name for name in target_names() if load_target(name).wide_activations is not None]

    assert able == ["android-arm64", "arm64"]


@pytest.mark.parametrize("target", ["intel", "x86_64", "arm64-legacy", "gpu"])
def test_a_target_without_such_kernels_is_refused_and_those_that_can_are_named(
    target: str, tiny_project: Callable[..., Project]
) -> None:
    with pytest.raises(
        RecipeError,
        match=rf"compress\.0 \(quantize\): target '{target}' has no kernels with 16-bit activations; build for one .*arm64",
    ):
        make_plans(tiny_project(WIDE).folder, targets=("arm64", target))


def test_int8_at_the_border_of_such_a_network_is_refused(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(WIDE, extra='[export]\nio_dtype = "int8"\n')

    with pytest.raises(RecipeError, match=r"export\.io_dtype: \"int8\" goes with 8-bit activations; leave it out"):
        make_plan(project.folder, target="arm64")


def test_a_range_estimator_for_256_steps_is_refused(tiny_project: Callable[..., Project]) -> None:
    project = tiny_project(WIDE + 'range_estimator = "histogram"\n')

    with pytest.raises(RecipeError, match=r"range_estimator.*the extremes are taken: leave it out"):
        make_plan(project.folder, target="arm64")


@pytest.mark.slow
def test_a_build_with_16_bits_keeps_the_limits_of_8_and_says_what_it_is(tiny_project: Callable[..., Project]) -> None:
    from edgepack.pipeline import build
    from edgepack.verified import verify

    bundle = build(tiny_project(WIDE.replace("ptq", "qat")).folder)

    variant = bundle.variant()
    assert variant.model.precision == "int8x16"
    assert {tensor.dtype for tensor in (*variant.inputs, *variant.outputs)} == {"float32"}
    assert verify(bundle.path).passed
