"""Measures models on a device: `run.py` from top to bottom. docs/benchmarking.md says what each number means."""

from edgepack.bench.models import BenchModel
from edgepack.bench.result import BenchResult, Comparison, Measurement, summarise
from edgepack.bench.run import bench, run_order, void_reason
from edgepack.bench.samples import BenchSamples
from edgepack.suites import BenchProtocol

__all__ = [
    "BenchModel",
    "BenchProtocol",
    "BenchResult",
    "BenchSamples",
    "Comparison",
    "Measurement",
    "bench",
    "run_order",
    "summarise",
    "void_reason",
]
