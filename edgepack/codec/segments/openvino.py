"""OpenVINO's `.bin`: the constants' data; the `.xml` beside it says what lies where (`Const` layers: offset, size, element_type, shape)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from edgepack.codec.segments.tile import Found
from edgepack.codec.types import Kind

if TYPE_CHECKING:
    from edgepack.codec.segments import Beside

_KINDS: dict[str, Kind] = {
    "i8": "i8",
    "u8": "u8",
    "i4": "i4",
    "u4": "u4",
    "i16": "i16",
    "i32": "i32",
    "f16": "f16",
    "f32": "f32",
}
# No XML parser: what is wanted are the attributes of <data>, and an entity bomb is not read this way.
_LAYER = re.compile(rb'<layer\b[^<>]*?\bname="([^"<>]*)"[^<>]*?\btype="Const"[^<>]*>\s*<data\b([^<>]*)>')
_ATTRIBUTE = re.compile(rb'\b(element_type|shape|offset|size)="([^"]*)"')
_NUMBER = re.compile(rb"[0-9]{1,15}\Z")


def find(data: bytes, name: str, beside: Beside) -> list[Found]:
    """The constants of the kinds that there is a coder for. A `.bin` without an `.xml` has none."""
    description = beside(str(PurePosixPath(name).with_suffix(".xml")))
    if description is None:
        return []
    found = (_constant(match[1], dict(_ATTRIBUTE.findall(match[2]))) for match in _LAYER.finditer(description))
    return [one for one in found if one is not None]


def _constant(name: bytes, attributes: dict[bytes, bytes]) -> Found | None:
    kind = _KINDS.get(attributes.get(b"element_type", b"").decode("latin-1"))
    offset, size = attributes.get(b"offset", b""), attributes.get(b"size", b"")
    sizes = [one.strip() for one in attributes.get(b"shape", b"").split(b",") if one.strip()]
    if kind is None or not all(_NUMBER.match(one) for one in (offset, size, *sizes)):
        return None
    shape = tuple(int(one) for one in sizes) or (1,)
    return Found(
        offset=int(offset),
        size_bytes=int(size),
        kind=kind,
        shape=shape,
        channel_axis=0 if len(shape) > 1 else None,
        name=name.decode("utf-8", "replace"),
    )
