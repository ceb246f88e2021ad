"""Patterns of zeros: where they lie, which go first, and which layers can have them."""

from __future__ import annotations

import pytest
import torch

from edgepack.network.patterns import Blocks, NofM, from_tiles, masks_at, parse_pattern, tiles_of, why_not

SHAPES = {"linear": (8, 16), "conv2d": (8, 16, 3, 3), "conv_transpose2d": (16, 8, 2, 2)}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("unstructured", None),
        ("2:4", NofM(kept=2, group=4)),
        ("1:16", NofM(kept=1, group=16)),
        ("4x1", Blocks(outputs=4, inputs=1)),
    ],
)
def test_a_pattern_is_read(text: str, pattern: object) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize("text", ["4:4", "0:4", "5:4", "8:32", "1x1", "0x4", "4x32", "2-4", "", "blocks"])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}': "):
        parse_pattern(text)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("text", ["2:4", "4x1", "1x4", "4x4"])
def test_a_weight_taken_apart_is_put_together_again(kind: str, text: str) -> None:
    pattern = parse_pattern(text)
    assert pattern is not None
    weight = torch.randn(SHAPES[kind])

    tiles = tiles_of(weight, pattern, kind)

    assert tiles.shape[1] == pattern.tile[0] * pattern.tile[1]
    assert torch.equal(from_tiles(tiles, SHAPES[kind], pattern, kind), weight)


@pytest.mark.parametrize(("kind", "along"), [("linear", 1), ("conv2d", 1), ("conv_transpose2d", 0)])
def test_the_largest_two_of_four_stay_along_the_input_channels(kind: str, along: int) -> None:
    weight = torch.randn(SHAPES[kind])

    (mask,) = masks_at({"w": weight}, {"w": kind}, NofM(kept=2, group=4), 1.0, across=False).values()

    groups = mask.movedim(along, -1).reshape(-1, 4)
    sizes = weight.abs().movedim(along, -1).reshape(-1, 4)
    assert (groups.sum(dim=1) == 2).all()
    assert (sizes.where(groups, torch.inf).amin(dim=1) >= sizes.where(~groups, -torch.inf).amax(dim=1)).all()


def test_half_of_the_groups_have_the_pattern_and_lose_least() -> None:
    weight = torch.randn(8, 16)
    pattern = NofM(kept=2, group=4)

    (mask,) = masks_at({"w": weight}, {"w": "linear"}, pattern, 0.5, across=False).values()

    groups = mask.reshape(-1, 4)
    lost = weight.abs().reshape(-1, 4).sort(dim=1).values[:, :2].norm(dim=1)
    sparse = groups.sum(dim=1) == 2
    assert int(sparse.sum()) == 16 and bool(groups[~sparse].all())
    assert lost[sparse].max() <= lost[~sparse].min()


def test_blocks_go_as_a_whole_the_smallest_norm_first() -> None:
    weight = torch.randn(8, 16, 3, 3)

    (mask,) = masks_at({"w": weight}, {"w": "conv2d"}, Blocks(outputs=4, inputs=1), 0.5, across=False).values()

    blocks = mask.reshape(2, 4, 16, 3, 3)
    whole = blocks.all(dim=1)
    assert torch.equal(whole, blocks.any(dim=1)) and int(whole.sum()) == whole.numel() // 2
    norms = weight.reshape(2, 4, 16, 3, 3).norm(dim=1)
    assert norms[whole].min() >= norms[~whole].max()


def test_across_layers_the_one_whose_blocks_weigh_less_loses_more() -> None:
    even, peaked = torch.ones(8, 8), torch.ones(8, 8)
    peaked[:4] *= 100

    masks = masks_at(
        {"even": even, "peaked": peaked}, {"even": "linear", "peaked": "linear"}, Blocks(outputs=4, inputs=1), 0.4, across=True
    )  # fmt: skip

    assert bool(masks["even"].all()) is False or int((~masks["peaked"]).sum()) == 32
    assert int((~masks["peaked"]).sum()) > int((~masks["even"]).sum())


@pytest.mark.parametrize(
    ("text", "shape", "kind", "groups", "because"),
    [
        ("2:4", (8, 16), "linear", 1, ""),
        ("2:4", (8, 3, 3, 3), "conv2d", 1, "its input channels (3) are no multiple of 4"),
        ("2:4", (8, 1, 3, 3), "conv2d", 8, "its input channels (1 in each group) are no multiple of 4"),
        ("4x1", (10, 16), "linear", 1, "its output channels (10) are no multiple of 4"),
        ("4x1", (8, 1, 3, 3), "conv2d", 8, "its output channels (1 in each group) are no multiple of 4"),
        ("2:4", (8, 4, 3, 3), "conv_transpose2d", 2, "it is a grouped transposed convolution"),
    ],
)
def test_a_layer_that_does_not_fit_says_why(
    text: str, shape: tuple[int, ...], kind: str, groups: int, because: str
) -> None:
    pattern = parse_pattern(text)
    assert pattern is not None

    assert why_not(pattern, shape, kind, groups=groups) == because
