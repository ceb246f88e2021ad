"""Where a bundle keeps what its manifest doesn't name: reports, labels, the reference implementations."""

from __future__ import annotations

from edgepack.bundle.archive import Bundle
from edgepack.bundle.manifest import Variant


def place_of_report(bundle: Bundle, variant: Variant, report: str) -> str:
    """Where a variant's report goes."""
    return f"reports/{report}" if len(bundle.manifest.variants) == 1 else f"{variant.target}/reports/{report}"


def report_name(bundle: Bundle, variant: Variant, report: str) -> str | None:
    """The entry of a variant's report, e.g. `reports/tensors.json`; None where the bundle has none.

    In a bundle of several variants, what differs between them lies below `<target>/`, and what all share lies where it would lie alone.
    """
    names = (f"{variant.target}/reports/{report}", f"reports/{report}")
    return next((name for name in names if name in bundle.names), None)
