"""What the encoder tells the decoder about a tensor: how to look at it, and first guesses. A few bytes each (docs/codec.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.codec.types import Segment

Codes = NDArray[np.uint8]
TRANSPOSED, INNER, GROUP, PALETTE, CENTRE, BASE = 1, 2, 4, 8, 16, 32
PREDICTS = 32  # in the grain of `rans`
QUICK, BYTES_BASE, BYTES_HISTORY, WIDE_BASE = 1, 2, 4, 1
_PALETTE_MAX = 64
_GROUPS = (16, 32, 64, 128)
# One line longer than this would leave too little of the decoder's workspace for the rest.
_LINE_MAX = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A tensor as lines: values in a stored line (0: all), and how far back the kernel position before lies in a scanned line (0: nowhere)."""

    line: int
    inner: int = 0
    is_transposed: bool = False


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def level_of(value: int) -> int:
    """`epk_log4` of the decoder: 4 × log2, rounded down; 0 for 0 and 1."""
    if value < 2:
        return 0
    top = value.bit_length() - 1
    fraction = value >> (top - 2) if top >= 2 else value << (2 - top)
    return 4 * top + (fraction & 3)


def codes_of(data: bytes, segment: Segment) -> Codes:
    """The elements' codes, one a byte: bytes as they are, nibbles apart (low first)."""
    raw = np.frombuffer(data, np.uint8)
    if segment.kind not in ("i4", "u4"):
        return raw
    return np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)


def views(segment: Segment, count: int) -> list[View]:
    """The ways to look at a tensor of `count` elements that are worth a try, the likeliest first."""
    shape = tuple(size for size in segment.shape)
    product = int(np.prod(shape)) if shape else 0
    if len(shape) < 2 or product != count or min(shape) < 1:
        return [View(line=0 if count <= _LINE_MAX else _LINE_MAX)]
    if segment.channel_axis in (len(shape) - 1, -1):
        line, inner_across = shape[-1], _kernel_width(shape[:-1])
        found = [View(line=line), View(line=line, inner=inner_across, is_transposed=True)]
    else:
        line = count // shape[0]
        found = [View(line=line, inner=_inner(shape, line)), View(line=line, is_transposed=True)]
    return [view for view in found if (count // view.line if view.is_transposed else view.line) <= _LINE_MAX] or [
        View(line=_LINE_MAX)
    ]


def _kernel_width(shape: tuple[int, ...]) -> int:
    """Of a depthwise kernel (1, height, width, channels): its width."""
    return shape[-1] if len(shape) >= 3 and 1 < shape[-1] < 32 else 0


def _inner(shape: tuple[int, ...], line: int) -> int:
    """How far apart two kernel positions of the same input lie in (out, height, width, in), or two inputs in (out, in, height, width)."""
    if len(shape) != 4:
        return shape[-1] if len(shape) == 3 and 1 < shape[-1] < line else 0
    if shape[2] == shape[3] > 1 and shape[1] != shape[2]:
        inner = shape[3] if shape[1] == 1 else shape[2] * shape[3]
    else:
        inner = shape[3]
    return inner if 1 < inner < line else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the coders of weights are told: magnitudes of `values` (differences to the base, or codes around a centre, or a palette's ranks)."""

    values: NDArray[np.int16]
    largest: int
    mean: int  # magnitude, 2^-8
    density: int  # nonzeros, 32nds
    centre: int | None
    palette: bytes
    has_base: bool


def statistics(codes: Codes, segment: Segment, base: Codes | None) -> Statistics:
    """Centre, palette and first guesses of a tensor of one-byte or four-bit codes."""
    bits = 4 if segment.kind in ("i4", "u4") else 8
    usual = {"u8": 128, "u4": 8}.get(segment.kind, 0)
    centre: int | None = None
    palette = b""
    if base is not None:
        values = _signed(codes - base, 0, bits)
    else:
        centre = _centre(codes, usual, bits)
        values = _signed(codes, centre, bits)
        palette = _palette(values, codes)
        if palette:
            ranks = np.zeros(256, np.int16)
            ranks[np.frombuffer(palette[2:], np.uint8)] = np.arange(palette[0] + 1) - palette[1]
            values = ranks[codes]
    sizes = np.abs(values)
    total = int(sizes.sum(dtype=np.int64))
    return Statistics(
        values=values,
        largest=int(sizes.max()),
        mean=total * 256 // len(codes) + 1,
        density=min(31, int(np.count_nonzero(values)) * 32 // len(codes)),
        centre=None if centre == usual or palette else centre,
        palette=palette,
        has_base=base is not None,
    )


def _signed(codes: Codes, centre: int, bits: int) -> NDArray[np.int16]:
    half = 1 << (bits - 1)
    values: NDArray[np.int16] = ((codes.astype(np.int16) - centre + half) & (2 * half - 1)) - half
    return values


def _centre(codes: Codes, usual: int, bits: int) -> int:
    """The code that stands for 0: the usual one, unless another one is far more frequent, or the codes lie off it."""
    counts = np.bincount(codes, minlength=256)
    most = int(counts.argmax())
    if counts[usual] * 2 >= counts[most]:
        return usual
    offsets = _signed(codes, usual, bits)
    middle = int(np.median(offsets)) + usual
    off_centre = most if counts[most] * 5 > len(codes) else middle
    return off_centre & ((1 << bits) - 1) if abs(off_centre - usual) > 2 else usual


def _palette(values: NDArray[np.int16], codes: Codes) -> bytes:
    """Distinct codes in the order of their values where there are few with gaps between: count - 1, rank of the centre, codes; else b''."""
    distinct, counts = np.unique(values, return_counts=True)
    if not 2 <= len(distinct) <= _PALETTE_MAX or int(distinct[-1]) - int(distinct[0]) + 1 < 1.5 * len(distinct):
        return b""
    code_of = {int(value): int(code) for value, code in zip(values[::-1], codes[::-1], strict=True)}
    middle = int(counts.argmax()) if counts.max() * 5 > len(codes) else int(np.abs(distinct).argmin())
    return bytes([len(distinct) - 1, middle, *(code_of[int(value)] for value in distinct)])


def group_size(values: NDArray[np.int16], line: int, largest: int) -> int:
    """The size of the groups in a line that have a scale of their own: each reaches the largest magnitude. 0: none."""
    line = line or len(values)
    for size in _GROUPS:
        if line % size or len(values) % size or line == size:
            continue
        peaks = np.abs(values.reshape(-1, size)).max(axis=1)
        peaks = peaks[peaks > 0]
        if len(peaks) and np.mean(peaks >= largest - 1 if largest > 7 else peaks == largest) > 0.95:
            return size
    return 0


def weights_params(found: Statistics, view: View) -> bytes:
    """Parameters of `mix` and `adaptive`."""
    group = 0 if view.is_transposed else group_size(found.values, view.line, found.largest)
    bits = max(0, (found.largest - 1).bit_length()) if found.largest else 0
    flags = (
        TRANSPOSED * view.is_transposed
        | INNER * bool(view.inner)
        | GROUP * bool(group)
        | PALETTE * bool(found.palette)
        | CENTRE * (found.centre is not None)
        | BASE * found.has_base
    )
    out = bytes([flags, bits | found.density << 3, level_of(found.mean)]) + varint(view.line)
    for number in (view.inner, group):
        out += varint(number) if number else b""
    return out + (bytes([found.centre]) if found.centre is not None else b"") + found.palette


def rans_params(found: Statistics, view: View, centre: int, grain: int) -> bytes:
    """Parameters of `rans`; `grain`: how finely its distributions tell mean magnitudes and shares of nonzeros apart."""
    return bytes([found.largest, found.density, level_of(found.mean), grain]) + varint(view.line) + bytes([centre])


def stride_of(data: bytes) -> int:
    """How far back the most similar byte lies in rows of a table or an image; 0 where nothing stands out."""
    if (header := npy_header(data)) is not None:
        return header.row_bytes
    sample = np.frombuffer(data[:65536], np.uint8)
    if len(sample) < 64:
        return 0
    shares = {back: float(np.mean(sample[back:] == sample[:-back])) for back in (4, 8, 12, 16, 20, 24, 28, 32, 40, 48)}
    best = max(shares, key=lambda back: shares[back])
    return best if shares[best] > 0.15 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Npy:
    """What the header of a .npy file says, as far as coding goes: bytes of a row of pixels and of one pixel; `order`: 128 for uint8, 0 for int8."""

    row_bytes: int
    pixel_bytes: int
    order: int | None


def npy_header(data: bytes) -> Npy | None:
    """The header of a .npy file's bytes, None for anything else."""
    import ast

    if data[:6] != b"\x93NUMPY":
        return None
    try:
        header = ast.literal_eval(data[10 : 10 + int.from_bytes(data[8:10], "little")].decode("latin-1"))
        shape, dtype = tuple(header["shape"]), np.dtype(header["descr"])
    except (
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # not an array after all: any stride is right, only larger
        return None
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        return None
    pixel = int(dtype.itemsize) * (shape[-1] if len(shape) >= 3 and shape[-1] <= 4 else 1)
    row = int(dtype.itemsize) * shape[-1] * (shape[-2] if len(shape) >= 3 and shape[-1] <= 4 else 1)
    if row > len(data):  # no array has rows longer than itself
        return None
    return Npy(row_bytes=row, pixel_bytes=pixel, order={"uint8": 128, "int8": 0}.get(dtype.name))


def picture(codes: Codes, segment: Segment) -> Npy | None:
    """How a tensor lies as a picture (height, width, channels last or first), None where neighbours don't resemble each other."""
    shape = segment.shape
    if len(shape) < 2 or segment.kind not in ("i8", "u8") or len(codes) < 4096:
        return None
    pixel = shape[-1] if len(shape) >= 3 and shape[-1] <= 4 else 1
    row = shape[-1] * (shape[-2] if pixel == shape[-1] else 1)
    samples = (codes ^ 128 if segment.kind == "i8" else codes).astype(np.int16)
    spread = np.abs(samples - int(np.median(samples))).mean()
    steps = np.abs(samples[pixel:] - samples[:-pixel]).mean()
    if not 0 < steps < 0.6 * spread:
        return None
    return Npy(row_bytes=row, pixel_bytes=pixel, order=128 if segment.kind == "u8" else 0)


def image_params(header: Npy) -> bytes:
    """Parameters of `rans` for samples of images: coded as differences to their neighbours' prediction."""
    order = header.order or 0
    start = bytes([128, 26, level_of(8 * 256), 1 | PREDICTS]) + varint(header.row_bytes)
    return start + bytes([order]) + varint(header.pixel_bytes) + varint(header.row_bytes)
