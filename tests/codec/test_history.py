"""What the decoder knows of a bundle's texts before it begins."""

from __future__ import annotations

import hashlib

from edgepack.codec.coders import decode, encode
from edgepack.codec.reference import data
from edgepack.codec.types import Segment


def test_the_history_is_part_of_the_format_and_never_changes() -> None:
    assert (
        hashlib.sha256(data._history()).hexdigest()
        == "05aa152afc9aaa16c06cbf3c9fbe9c11cf9e0efd0f909bf8f144d96bca97a285"
    )


def test_a_manifest_takes_a_fraction_of_what_it_would() -> None:
    manifest = data._history()[-14_000:-5_000]  # as one was when the history was written
    segment = Segment(size_bytes=len(manifest))

    coded = encode(manifest, segment, profile="small")

    assert decode(coded, segment) == manifest
    assert len(coded.payload) < 100


def test_other_data_are_no_larger_for_it() -> None:
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(40))
    segment = Segment(size_bytes=len(noise))

    coded = encode(noise, segment, profile="small")

    assert decode(coded, segment) == noise
    assert len(coded.payload) <= len(noise)
