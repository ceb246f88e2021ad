"""The bundle: one deterministic archive for app developers, and what it says about itself (docs/bundle-format.md)."""

from edgepack.bundle.archive import Bundle, read_bundle, with_signatures, write_bundle
from edgepack.bundle.places import report_name

__all__ = ["Bundle", "read_bundle", "report_name", "with_signatures", "write_bundle"]
