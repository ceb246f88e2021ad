"""The decoder in plain Python gives what the compiled one gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.codec import reference
from edgepack.codec.coders import decode, encode
from edgepack.codec.types import BITS, KINDS, PROFILES, Coded, Kind, Profile, Segment
from edgepack.core.errors import BundleError


@given(
    kind=st.sampled_from(KINDS),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    axis=st.sampled_from([None, 0, 1]),
    profile=st.sampled_from(PROFILES),
    has_base=st.booleans(),
    seed=st.integers(0, 9999),
)
@settings(max_examples=60, deadline=None)
def test_both_decoders_agree(
    kind: Kind, shape: list[int], axis: int | None, profile: Profile, has_base: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    size_bytes = (int(np.prod(shape)) * BITS[kind] + 7) // 8
    base = random.normal(0, random.choice([0.5, 9, 60]), size_bytes).clip(-128, 127).astype(np.int8).view(np.uint8)
    base[random.random(size_bytes) < random.choice([0, 0.6])] = 0
    data = base + (random.random(size_bytes) < 0.2).astype(np.uint8)
    segment = Segment(
        size_bytes=size_bytes,
        kind=kind,
        shape=() if kind == "bytes" else tuple(shape),
        channel_axis=axis if axis is None or axis < len(shape) else 0,
    )
    older = base.tobytes() if has_base else None

    coded = encode(data.tobytes(), segment, profile=profile, base=older)

    assert reference.decode(coded, segment, base=older) == data.tobytes()


@pytest.mark.parametrize("coder", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_both_decoders_agree_about_streams_that_nobody_wrote(kind: Kind, coder: int) -> None:
    """The same bytes, or both refuse."""
    random = np.random.default_rng(coder)
    for _ in range(4):
        params = bytes([*random.integers(0, 64, 4), *random.integers(0, 128, 8)])
        coded = Coded(coder=coder, params=params, payload=random.bytes(int(random.integers(0, 60))))
        segment = Segment(size_bytes=int(random.integers(1, 9)) * 4, kind=kind, shape=())

        assert _outcome(decode, coded, segment) == _outcome(reference.decode, coded, segment)


def _outcome(decoder: object, coded: Coded, segment: Segment) -> bytes | str:
    try:
        return decoder(coded, segment, base=bytes(range(64)))  # type: ignore[operator,no-any-return]
    except BundleError as exc:
        return str(exc)
