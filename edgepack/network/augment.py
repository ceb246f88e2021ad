"""Random changes of training samples: each step's follow from its own random numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from edgepack.network.training import Training

_RATIO_MAX = 4 / 3  # of a crop's sides, beside that of the image
_COLOR_MAX = 0.4  # share by which brightness, contrast and saturation change at most


def augmented(
    inputs: tuple[torch.Tensor, ...], options: Training, rng: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """Random flips, crops, colors and shifts of NCHW images, shifts along the first axis, samples mixed in pairs; other inputs stay as they are."""
    changed = [_augmented_images(tensor, options, rng) if tensor.dim() == 4 else tensor for tensor in inputs]
    if "time_shift" in options.augment:
        changed = [_time_shifted(tensor, options, rng) if tensor.dim() > 1 else tensor for tensor in changed]
    if "mixup" in options.augment:
        partners, shares = rng.permutation(len(changed[0])), rng.random(len(changed[0]), dtype=np.float32)
        changed = [_mixed(tensor, torch.from_numpy(partners), torch.from_numpy(shares)) for tensor in changed]
    return tuple(changed)


def _time_shifted(samples: torch.Tensor, options: Training, rng: np.random.Generator) -> torch.Tensor:
    """Each sample moved along its first axis; the moments at its ends are repeated."""
    length = samples.shape[1]
    reach = options.shift_pixels or max(1, length // 14)
    moments = np.arange(length) + rng.integers(-reach, reach + 1, size=(len(samples), 1))
    return samples[torch.arange(len(samples))[:, None], torch.from_numpy(moments.clip(0, length - 1))]


def _mixed(samples: torch.Tensor, partners: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Each sample's share of itself, the rest of its partner; integers (ids) stay as they are."""
    if not samples.is_floating_point():
        return samples
    own = shares.reshape(-1, *[1] * (samples.dim() - 1))
    return own * samples + (1 - own) * samples[partners]


def _augmented_images(images: torch.Tensor, options: Training, rng: np.random.Generator) -> torch.Tensor:
    if "hflip" in options.augment:
        flipped = torch.from_numpy(rng.random(len(images)) < 0.5)
        images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    if "crop" in options.augment:
        images = _cropped(images, options.crop_min, rng)
    if "color" in options.augment:
        images = _colored(images, rng)
    if "shift" in options.augment:
        reach = options.shift_pixels or max(1, images.shape[-1] // 14)
        padded = functional.pad(images, (reach,) * 4, mode="replicate")
        offsets = rng.integers(0, 2 * reach + 1, size=(len(images), 2))
        height, width = images.shape[-2:]
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        rows, columns = torch.from_numpy(offsets).unbind(1)
        images = windows[torch.arange(len(images)), :, rows, columns]
    return images


def _colored(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each image brighter or darker, with more or less contrast and, of three channels, saturation, within the range of values that it has (Howard 2013, arXiv:1312.5402).

    What is black depends on how images were normalized, so brightness moves all values by a share of their standard deviation.
    """
    factors = rng.uniform(1 - _COLOR_MAX, 1 + _COLOR_MAX, (3, len(images), 1, 1, 1)).astype(np.float32)
    brightness, contrast, saturation = torch.from_numpy(factors)
    values, axes = images.float(), (1, 2, 3)
    mean, deviation = values.mean(axes, keepdim=True), values.std(axes, keepdim=True)
    changed = mean + contrast * (values - mean) + (brightness - 1) * deviation
    if images.shape[1] == 3:
        gray = changed.mean(1, keepdim=True)
        changed = gray + saturation * (changed - gray)
    return _as(images, changed.clamp(values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)))


def _as(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values of these images' type: those of integers are rounded."""
    return values.to(images.dtype) if images.is_floating_point() else values.round().to(images.dtype)


def _cropped(images: torch.Tensor, area_min: float, rng: np.random.Generator) -> torch.Tensor:
    """A part of each image, enlarged to the image's size, bilinear (Szegedy et al. 2015, arXiv:1409.4842)."""
    count = len(images)
    areas = rng.uniform(area_min, 1, count)
    ratios = np.exp(rng.uniform(-np.log(_RATIO_MAX), np.log(_RATIO_MAX), count))
    scales = np.sqrt(np.stack([areas * ratios, areas / ratios], axis=1)).clip(max=1)  # of width and height
    centres = (1 - scales) * rng.uniform(-1, 1, scales.shape)
    moves = np.zeros((count, 2, 3), np.float32)
    moves[:, 0, 0], moves[:, 1, 1], moves[:, :, 2] = scales[:, 0], scales[:, 1], centres
    grid = functional.affine_grid(torch.from_numpy(moves), list(images.shape), align_corners=False)
    found = functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _as(images, found)
