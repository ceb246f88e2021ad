"""What goes in comes out: every kind, shape, density, base and profile."""

from __future__ import annotations

import io
import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.codec.coders import CODERS, decode, encode
from edgepack.codec.types import BITS, KINDS, PROFILES, Kind, Profile, Segment


@st.composite
def tensors(draw: st.DrawFn, kinds: tuple[Kind, ...] = KINDS[1:]) -> tuple[bytes, Segment]:
    kind = draw(st.sampled_from(kinds))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    count = int(np.prod(shape))
    size_bytes = (count * BITS[kind] + 7) // 8
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0, 1, 5, 40, 127]))
    values = random.normal(0, spread, size_bytes).clip(-128, 127).astype(np.int8)
    values[random.random(size_bytes) < draw(st.sampled_from([0.0, 0.5, 0.95]))] = draw(st.integers(-128, 127))
    axis = draw(st.sampled_from([None, 0, len(shape) - 1]))
    return values.tobytes(), Segment(size_bytes=size_bytes, kind=kind, shape=shape, channel_axis=axis, name="w")


@given(tensor=tensors(), profile=st.sampled_from(PROFILES))
@settings(max_examples=60, deadline=None)
def test_a_tensor_comes_back(tensor: tuple[bytes, Segment], profile: Profile) -> None:
    data, segment = tensor

    coded = encode(data, segment, profile=profile)

    assert decode(coded, segment) == data
    assert len(coded.payload) <= len(data)


@given(tensor=tensors(), profile=st.sampled_from(PROFILES), changed=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_tensor_comes_back_with_its_older_self(
    tensor: tuple[bytes, Segment], profile: Profile, changed: float, seed: int
) -> None:
    base, segment = tensor
    random = np.random.default_rng(seed)
    new = np.frombuffer(base, np.uint8).copy()
    where = random.random(len(new)) < changed
    new[where] += random.integers(0, 3, where.sum(), np.uint8)

    coded = encode(new.tobytes(), segment, profile=profile, base=base)

    assert decode(coded, segment, base=base) == new.tobytes()


@given(data=st.binary(max_size=3000), base=st.none() | st.binary(max_size=3000), profile=st.sampled_from(PROFILES))
@settings(max_examples=60, deadline=None)
def test_bytes_come_back(data: bytes, base: bytes | None, profile: Profile) -> None:
    segment = Segment(size_bytes=len(data))

    coded = encode(data, segment, profile=profile, base=base)

    assert decode(coded, segment, base=base) == data


def test_decoding_needs_the_size_and_the_kind_but_no_shape() -> None:
    """So that a container need not send shapes."""
    data = np.random.default_rng(1).normal(0, 30, 64 * 48).clip(-127, 127).astype(np.int8).tobytes()
    segment = Segment(size_bytes=len(data), kind="i8", shape=(64, 48), channel_axis=0)

    coded = encode(data, segment, profile="small")

    assert decode(coded, Segment(size_bytes=len(data), kind="i8")) == data


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_coded_as_nothing(kind: Kind, profile: Profile) -> None:
    segment = Segment(size_bytes=0, kind=kind, shape=(0,) if kind != "bytes" else ())

    coded = encode(b"", segment, profile=profile)

    assert (coded.params, coded.payload) == (b"", b"")
    assert decode(coded, segment) == b""


def test_data_of_another_length_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="3 bytes for a segment of 4"):
        encode(b"abc", Segment(size_bytes=4, kind="i8", shape=(4,)), profile="small")
    with pytest.raises(ValueError, match="a base of 2 bytes for a tensor of 4"):
        encode(b"abcd", Segment(size_bytes=4, kind="i8", shape=(4,)), profile="small", base=b"ab")


@pytest.mark.parametrize("code", [0, 7, 128])
@pytest.mark.parametrize("profile", PROFILES)
def test_one_code_everywhere_takes_a_few_bytes(profile: Profile, code: int) -> None:
    data = bytes([code]) * 50_000
    segment = Segment(size_bytes=len(data), kind="i8", shape=(50, 1000), channel_axis=0)

    coded = encode(data, segment, profile=profile)

    assert decode(coded, segment) == data
    assert len(coded.payload) < 20


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_golden_images_are_coded_as_images(dtype: type[np.generic]) -> None:
    """A smooth picture with a little noise, as a golden sample is: far below any general coder, also in profile fast."""
    random = np.random.default_rng(3)
    ramp = np.add.outer(np.arange(160), np.arange(160) // 2)[None, :, :, None] + np.array([0, 20, 40])
    pixels = (ramp + random.integers(-2, 3, (1, 160, 160, 3))).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    np.save(file, (pixels ^ 128).view(np.int8) if dtype is np.int8 else pixels)
    data = file.getvalue()
    segment = Segment(size_bytes=len(data), name="golden/input_0.npy")

    coded = encode(data, segment, profile="fast")

    assert decode(coded, segment) == data
    assert len(coded.payload) < 0.9 * len(lzma.compress(data))


def test_a_golden_tensor_is_coded_as_an_image_whatever_its_container_says() -> None:
    ramp = np.add.outer(np.arange(100), np.arange(90))[None, :, :, None] + np.array([0, 20, 40])
    data = (ramp + np.random.default_rng(4).integers(-2, 3, ramp.shape)).clip(0, 255).astype(np.uint8).tobytes()
    segment = Segment(size_bytes=len(data), kind="u8", shape=(1, 100, 90, 3), channel_axis=3)

    coded = {profile: encode(data, segment, profile=profile) for profile in PROFILES}

    assert all(decode(one, segment) == data for one in coded.values())
    assert coded["fast"].coder == CODERS["rans"]
    assert len(coded["small"].payload) <= len(coded["fast"].payload) < 0.5 * len(data)
