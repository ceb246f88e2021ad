"""The committed vectors: what any decoder of this format, on any machine, must give."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edgepack.codec import reference
from edgepack.codec.coders import CODERS, decode
from edgepack.codec.types import Coded, Segment

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "vectors.json").read_text(encoding="utf-8")
)


def parts(vector: dict[str, Any]) -> tuple[Coded, Segment, bytes | None]:
    """The vector as the decoders take it."""
    params, payload, base = (base64.b64decode(vector[key]) for key in ("params", "payload", "base"))
    segment = Segment(size_bytes=vector["size_bytes"], kind=vector["kind"], name=vector["name"])
    return Coded(coder=vector["coder"], params=params, payload=payload), segment, base or None


def test_every_coder_has_vectors() -> None:
    assert {vector["coder"] for vector in VECTORS} == set(CODERS.values())


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_compiled_decoder_passes(vector: dict[str, Any]) -> None:
    coded, segment, base = parts(vector)

    assert hashlib.sha256(decode(coded, segment, base=base)).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_reference_passes(vector: dict[str, Any]) -> None:
    coded, segment, base = parts(vector)

    assert hashlib.sha256(reference.decode(coded, segment, base=base)).hexdigest() == vector["sha256"]
