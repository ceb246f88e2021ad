"""Random changes of samples that are no images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgepack.core.errors import RecipeError
from edgepack.core.section import validate
from edgepack.network.augment import augmented
from edgepack.network.training import Training


def changed(inputs: tuple[torch.Tensor, ...], seed: int = 0, **options: object) -> tuple[torch.Tensor, ...]:
    return augmented(inputs, Training.model_validate({"steps": 1, **options}), np.random.default_rng(seed))


def test_a_time_shift_moves_a_sample_along_its_first_axis() -> None:
    sound = torch.arange(28.0).reshape(1, 28, 1).expand(64, 28, 5)

    (moved,) = changed((sound,), augment=("time_shift",))

    offsets = (moved - sound)[:, 10, 0]
    assert set(offsets.tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}  # a 14th of 28
    assert torch.equal(moved[:, 3:-3], (sound + offsets[:, None, None])[:, 3:-3])
    assert moved.min() == 0 and moved.max() == 27


def test_mixed_samples_lie_between_two_and_all_inputs_are_mixed_alike() -> None:
    first, ids = torch.eye(16), torch.arange(16)

    mixed, second, kept = changed((first, first * 3, ids), augment=("mixup",))

    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(16))
    torch.testing.assert_close(second, mixed * 3)
    assert int((mixed > 0).sum(dim=1).max()) == 2 and torch.equal(kept, ids)


def test_the_same_random_numbers_give_the_same_samples() -> None:
    x = torch.randn(8, 28, 5)

    both = {"augment": ("time_shift", "mixup")}
    assert torch.equal(changed((x,), **both)[0], changed((x,), **both)[0])
    assert not torch.equal(changed((x,), **both)[0], changed((x,), seed=1, **both)[0])


def test_a_crop_enlarges_a_part_of_each_image() -> None:
    ramp = torch.linspace(0, 1, 32).expand(64, 3, 32, 32)  # rises from left to right

    (found,) = changed((ramp,), augment=("crop",), crop_min=0.25)

    assert found.shape == ramp.shape
    widths = (found[:, 0, 16, -1] - found[:, 0, 16, 0]) * 31 / 32 + 1 / 32  # of the part, as a share of the image's
    assert 0.4 < float(widths.min()) < 0.6 and float(widths.max()) <= 1.001
    torch.testing.assert_close(found[:, :, 0], found[:, :, -1])  # rows stay rows
    assert float((found[:, :, :, 1:] - found[:, :, :, :-1]).min()) >= -1e-6


def test_a_crop_of_integers_is_made_of_integers() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(4, 3, 16, 16)

    (found,) = changed((images,), augment=("crop",))

    assert found.dtype == torch.uint8 and found.shape == images.shape
    assert not torch.equal(found, images)


def test_colors_change_image_by_image_within_the_range_of_each() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 8) * torch.linspace(0.5, 2, 64).reshape(-1, 1, 1, 1)

    (found,) = changed((images,), augment=("color",))

    assert (found.amin((1, 2, 3)) >= images.amin((1, 2, 3)) - 1e-6).all()
    assert (found.amax((1, 2, 3)) <= images.amax((1, 2, 3)) + 1e-6).all()
    contrast = found.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.5 < float(contrast.min()) < 0.8 and 1.05 < float(contrast.max()) < 1.5
    brighter = (found.mean((1, 2, 3)) - images.mean((1, 2, 3))) / images.std((1, 2, 3))
    assert -0.5 < float(brighter.min()) < -0.2 and 0.2 < float(brighter.max()) < 0.5


def test_gray_images_of_integers_stay_gray_and_integers() -> None:
    gray = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)

    (alone,) = changed((gray,), augment=("color",))
    (three,) = changed((gray.expand(16, 3, 8, 8),), augment=("color",))

    assert alone.dtype == torch.uint8 and not torch.equal(alone, gray)
    assert torch.equal(three[:, 0], three[:, 1]) and torch.equal(three[:, 0], three[:, 2])


def test_how_small_a_crop_may_be_needs_a_crop() -> None:
    with pytest.raises(RecipeError, match="'crop_min' needs \"crop\" in 'augment'"):
        validate(Training, {"steps": 1, "crop_min": 0.5, "augment": ["hflip"]}, where="train")


def test_mixed_samples_have_no_label() -> None:
    with pytest.raises(RecipeError, match='"mixup" has no label of its own'):
        validate(Training, {"steps": 1, "loss": "labels", "augment": ["mixup"]}, where="train")


def test_how_far_to_move_needs_something_that_moves() -> None:
    with pytest.raises(RecipeError, match="'shift_pixels' needs"):
        validate(Training, {"steps": 1, "shift_pixels": 2, "augment": ["mixup"]}, where="train")
    assert validate(Training, {"steps": 1, "shift_pixels": 2, "augment": ["time_shift"]}, where="train").shift_pixels
