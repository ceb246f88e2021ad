"""What the methods reach on real models: the tables of issue 6."""

from __future__ import annotations

from benchmarks import compressed, lenets


def run() -> None:
    """Print them all, or those of `--only`."""
    lenets.run()
    compressed.run()
