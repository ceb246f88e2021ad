"""Which targets share one quantization grid."""

from __future__ import annotations

from edgepack.grouping import group_targets, shared
from edgepack.targets import NumericConstraints, load_target, target_names

ARM = load_target("arm64").quantization
SYMMETRIC = ARM.model_copy(update={"activations_symmetric": True, "fixed_output_ranges": {}})


def test_targets_with_the_same_rules_share_one_grid() -> None:
    (group,) = group_targets({"arm64": ARM, "phone": ARM})

    assert group.targets == ("arm64", "phone")
    assert group.constraints == ARM
    assert group.apart_because == ""


def test_symmetric_and_asymmetric_activations_are_trained_apart_and_the_reason_is_told() -> None:
    first, second = group_targets({"arm64": ARM, "gpu": SYMMETRIC, "phone": ARM})

    assert (first.targets, second.targets) == (("arm64", "phone"), ("gpu",))
    assert second.apart_because == "gpu needs symmetric (zero point 0) activations, the others asymmetric ones"


def test_other_bits_and_other_grids_in_a_kernel_are_trained_apart() -> None:
    wide = ARM.model_copy(update={"activations_bits": 16})
    tanh = ARM.model_copy(update={"fixed_output_ranges": {"tanh": (-2.0, 2.0)}})

    reasons = [group_targets({"arm64": ARM, "other": other})[1].apart_because for other in (wide, tanh)]

    assert reasons == [
        "other computes with 16-bit activations, the others with 8-bit ones",
        "other has another grid built into its kernel of tanh",
    ]


def test_a_shared_grid_keeps_every_members_rules() -> None:
    loose = NumericConstraints(
        weights_symmetric=False, activations_per_channel=True, weights_narrow_range=False, quantize_outputs=False,
        fused_activations=("relu", "gelu"), same_grid_ops=("roll",), overflow_fix=True,
    )  # fmt: skip

    both = shared(ARM, loose)

    assert (both.weights_symmetric, both.weights_narrow_range, both.quantize_outputs, both.overflow_fix) == (True,) * 4
    assert both.activations_per_channel is False
    assert both.fused_activations == ("relu",)
    assert set(both.same_grid_ops) == {*ARM.same_grid_ops, "roll"}
    assert both.fixed_output_ranges == ARM.fixed_output_ranges


def test_every_shipped_target_is_in_exactly_one_group() -> None:
    targets = {name: load_target(name).quantization for name in target_names()}

    groups = group_targets(targets)

    assert sorted(name for group in groups for name in group.targets) == sorted(targets)
