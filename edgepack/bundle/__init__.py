"""The bundle: one deterministic archive for app developers, and what it says about itself (docs/bundle-format.md)."""

from edgepack.bundle.archive import Bundle, read_bundle, write_bundle

__all__ = ["Bundle", "read_bundle", "write_bundle"]
