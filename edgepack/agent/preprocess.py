"""Turns raw samples into the model's input by a list of declared steps: the reference that every app must match.

The file stands alone: bundles ship it and devices run it, so it needs Python 3.9, NumPy and, for images, Pillow,
and never imports edgepack. The same bytes and the same steps give the same bytes, sample by sample.
"""

from __future__ import annotations

import difflib
import inspect
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class SampleError(ValueError):
    """A sample that a step can't take; `index` is its place among those given."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"sample {index}: {reason}")
        self.index, self.reason = index, reason


# The steps are plain classes and not dataclasses: a dataclass with postponed annotations can't be loaded by
# importlib.util.spec_from_file_location without a sys.modules entry, which is how an app may load this file.
class Grayscale:
    """Make an RGB image gray by ITU-R 601 luma, as Pillow's convert("L") rounds it: uint8 (H, W, 3) to (H, W, 1)."""

    def __call__(self, image: Array) -> Array:
        from PIL import Image

        if image.shape[2] == 1:
            return image
        if image.shape[2] != 3:
            raise ValueError(f"needs 1 or 3 channels, got shape {image.shape}")
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


class CenterCrop:
    """Keep the middle: a square of `fraction` (0…1) of the short side, or `size` pixels (an integer or [height, width]).

    The side is Python's round(fraction × short side); an odd margin leaves the extra pixel right and below.
    """

    def __init__(self, *, fraction: float | None = None, size: int | Sequence[int] | None = None) -> None:
        if (fraction is None) == (size is None):
            raise ValueError("give either 'fraction' or 'size'")
        if fraction is not None and not 0.0 < _number("fraction", fraction) <= 1.0:
            raise ValueError(f"'fraction' must lie in (0, 1], got {fraction}")
        self._fraction = fraction
        self._size = None if size is None else _height_and_width(size)

    def __call__(self, image: Array) -> Array:
        height, width = image.shape[:2]
        square = max(1, round((self._fraction or 1.0) * min(height, width)))
        crop_height, crop_width = self._size or (square, square)
        if crop_height > height or crop_width > width:
            raise ValueError(f"can't cut {crop_height}x{crop_width} from an image of {height}x{width}; resize it first")
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        return image[top : top + crop_height, left : left + crop_width]


class Resize:
    """Scale a uint8 image with Pillow to `size` (an integer or [height, width]) by `filter`.

    `filter` is nearest, bilinear, bicubic or lanczos. `mode` "stretch" gives exactly `size`; "short_side" makes the
    short side `size` pixels and keeps the aspect, the long side rounded down as torchvision does. The width is scaled
    first, rounded to whole pixels, then the height.
    """

    def __init__(self, *, size: int | Sequence[int], filter: str = "bilinear", mode: str = "stretch") -> None:  # noqa: A002  # the name in the recipe
        self._filter = _choice("filter", filter, ("nearest", "bilinear", "bicubic", "lanczos"))
        self._mode = _choice("mode", mode, ("stretch", "short_side"))
        if mode == "short_side" and not isinstance(size, int):
            raise ValueError(f"'size' must be one integer with mode 'short_side', got {size!r}")
        self._size = _height_and_width(size)

    def __call__(self, image: Array) -> Array:
        from PIL import Image

        height, width = self._target_of(image)
        method = getattr(getattr(Image, "Resampling", Image), self._filter.upper())

        def scaled(plane: Array) -> Array:
            # Across and then down, in two calls: in one call, Pillow 13 goes down first where the height shrinks more
            # (its pull request 9549), older ones never do, and the rounding in between makes that other bytes.
            across = Image.fromarray(plane).resize((width, plane.shape[0]), method)
            return np.asarray(across.resize((width, height), method))

        if image.shape[2] == 3:
            return scaled(image)
        # One channel at a time: Pillow would premultiply the fourth of four as alpha.
        return np.stack([scaled(image[:, :, channel]) for channel in range(image.shape[2])], axis=2)

    def _target_of(self, image: Array) -> tuple[int, int]:
        height, width = int(image.shape[0]), int(image.shape[1])
        if self._mode == "stretch":
            return self._size
        side = self._size[0]
        return (side, side * width // height) if height <= width else (side * height // width, side)


class ToFloat:
    """Make the values float32 and divide them by `divide`, e.g. 255.0 for pixels in 0…1."""

    def __init__(self, *, divide: float = 1.0) -> None:
        self._divide = _numbers("divide", _number("divide", divide))
        if self._divide == 0:
            raise ValueError(f"'divide' must not be 0 in float32, got {divide}")

    def __call__(self, values: Array) -> Array:
        scaled: Array = values.astype(np.float32) / self._divide
        return scaled


class Normalize:
    """Compute (x − mean) / std in float32; `mean` and `std` are numbers, or lists with one number per channel."""

    def __init__(self, *, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self._mean = _numbers("mean", mean)
        self._std = _numbers("std", std)
        if np.any(self._std == 0):
            raise ValueError(f"'std' must not be 0 in float32, got {std}")

    def __call__(self, values: Array) -> Array:
        for name, given in (("mean", self._mean), ("std", self._std)):
            if given.ndim and given.shape[0] != values.shape[-1]:
                raise ValueError(
                    f"'{name}' has {given.shape[0]} values for {values.shape[-1]} channels (the last axis)"
                )
        normalized: Array = (values.astype(np.float32) - self._mean) / self._std
        return normalized


class Layout:
    """Order the axes of an image: `to` "CHW" puts the channels first, "HWC" leaves them last. Must be the last step."""

    def __init__(self, *, to: str) -> None:
        self._to = _choice("to", to, ("CHW", "HWC"))

    def __call__(self, image: Array) -> Array:
        return image.transpose(2, 0, 1) if self._to == "CHW" else image


OPS: dict[str, Any] = {
    "grayscale": Grayscale,
    "center_crop": CenterCrop,
    "resize": Resize,
    "to_float": ToFloat,
    "normalize": Normalize,
    "layout": Layout,
}
_FOR_IMAGES = (Grayscale, CenterCrop, Resize, Layout)
_FOR_UINT8 = (Grayscale, Resize)


def describe_ops() -> dict[str, str]:
    """What each op does and which options it has, by name."""
    return {name: inspect.cleandoc(op.__doc__) for name, op in OPS.items()}


def validate_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for the first step that is unknown, of a wrong type or in a wrong place."""
    _parse(steps)


def preprocess(samples: Array | Sequence[bytes] | Sequence[Array], steps: Sequence[Mapping[str, Any]]) -> Array:
    """The model's input: one array whose first axis counts the samples, in the order given.

    `samples` is an array (N, H, W), (N, H, W, C) or (N, …), a list of uint8 arrays (H, W) or (H, W, C) of any
    sizes, or a list of encoded JPEG or PNG files, which are decoded to RGB without looking at EXIF. An (H, W)
    sample gets a channel axis, (H, W, 1), if any step is about images; other arrays keep their axes.
    `steps` are tables with `op` and that op's options. Raises ValueError that names the step, or a SampleError.
    """
    operations = _parse(steps)
    if len(samples) == 0:
        raise ValueError("there are no samples to preprocess")
    for_images = any(isinstance(operation, _FOR_IMAGES) for _, operation in operations)
    result: Array | None = None
    for index, sample in enumerate(samples):
        try:
            values = _apply(operations, _read(sample, for_images=for_images))
            if result is None:
                result = np.empty((len(samples), *values.shape), values.dtype)
            if values.shape != result.shape[1:]:
                raise ValueError(
                    f"has shape {values.shape} and the first has {result.shape[1:]}; add a 'resize' step to one size"
                )
        except ValueError as exc:
            raise SampleError(index, str(exc)) from exc
        result[index] = values
    assert result is not None
    return result


def _apply(operations: Sequence[tuple[str, Any]], values: Array) -> Array:
    for where, operation in operations:
        try:
            if isinstance(operation, _FOR_IMAGES) and values.ndim != 3:
                raise ValueError(f"needs an image (height, width, channels), got shape {values.shape}")
            if isinstance(operation, _FOR_UINT8) and values.dtype != np.uint8:
                raise ValueError(f"works on uint8 images (0…255), got {values.dtype}; provide the samples as uint8")
            values = operation(values)
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from exc
    return values


def _read(sample: Any, *, for_images: bool) -> Array:
    """One sample as an array; an encoded image as uint8 (H, W, 3)."""
    values = decode(bytes(sample)) if isinstance(sample, (bytes, bytearray)) else np.asarray(sample)
    return values[:, :, None] if for_images and values.ndim == 2 else values


def decode(data: bytes) -> Array:
    """An encoded JPEG or PNG file as uint8 (H, W, 3), without looking at EXIF. Raises ValueError."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as exc:  # Pillow raises SyntaxError for broken PNGs
        raise ValueError(f"not a readable JPEG or PNG ({exc}); replace or remove it") from exc


def _parse(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """Each step's name for messages, and the step ready to be called."""
    if not isinstance(steps, (list, tuple)):
        raise ValueError(f"preprocess: must be a list of steps, got {type(steps).__name__}")
    operations: list[tuple[str, Any]] = []
    for number, step in enumerate(steps, start=1):
        name = _op_of(number, step)
        where = f"preprocess step {number} ({name})"
        _check_order(where, OPS[name], operations)
        options = {key: value for key, value in step.items() if key != "op"}
        _check_names(where, OPS[name], options)
        try:
            operations.append((where, OPS[name](**options)))
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from exc
    return operations


def _op_of(number: int, step: Any) -> str:
    if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
        raise ValueError(f"preprocess step {number}: must be a table with a text 'op', got {step!r}")
    name: str = step["op"]
    if name not in OPS:
        raise ValueError(f"preprocess step {number}: unknown op '{name}'{_hint(name, OPS)}")
    return name


def _check_order(where: str, op: Any, earlier: Sequence[tuple[str, Any]]) -> None:
    for place, operation in earlier:
        if isinstance(operation, Layout):
            raise ValueError(f"{where}: stands after {place}, which must be the last step; move 'layout' to the end")
        if op in _FOR_UINT8 and isinstance(operation, (ToFloat, Normalize)):
            raise ValueError(f"{where}: works on uint8 images; move it before {place}")


def _check_names(where: str, op: Any, options: Mapping[str, Any]) -> None:
    known = inspect.signature(op).parameters if "__init__" in vars(op) else {}
    for option in options:
        if option not in known:
            raise ValueError(f"{where}: unknown option '{option}'{_hint(str(option), known) or ' (it has no options)'}")
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise ValueError(f"{where}: option '{option}' is required and missing")


def _hint(word: str, known: Mapping[str, Any]) -> str:
    for near in difflib.get_close_matches(word, list(known), n=1, cutoff=0.6):
        return f" (did you mean '{near}'?)"
    return f" (known: {', '.join(sorted(known))})" if known else ""


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"'{name}' must be a number, got {value!r}")
    return float(value)


def _numbers(name: str, value: Any) -> Array:
    """float32, with no axis for one number and one axis for a list."""
    if not isinstance(value, (list, tuple)) or not value:
        return np.array(_number(name, value), np.float32)
    return np.array([_number(name, item) for item in value], np.float32)


def _choice(name: str, value: Any, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"'{name}' must be one of {', '.join(known)}, got {value!r}")
    return value


def _height_and_width(size: Any) -> tuple[int, int]:
    pair = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if len(pair) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in pair):
        raise ValueError(f"'size' must be a positive integer or [height, width], got {size!r}")
    return pair[0], pair[1]
