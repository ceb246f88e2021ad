"""Transport coding: quantized weights as an adaptive predictor sees them, so that a bundle is small on the wire (docs/codec.md)."""

from edgepack.codec.types import KINDS, PROFILES, Coded, Kind, Profile, Segment

__all__ = ["KINDS", "PROFILES", "Coded", "Kind", "Profile", "Segment"]
