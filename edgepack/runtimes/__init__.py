"""Runtimes: what opens a model file on this machine and runs it, as an app on the device would."""

from edgepack.core.registry import Registry
from edgepack.runtimes.protocol import Operator, Runtime, Session

__all__ = ["RUNTIMES", "Operator", "Runtime", "Session"]

# Each attribute is a class without required arguments: RUNTIMES.load("litert")().open(path)
RUNTIMES: Registry[type[Runtime]] = Registry(
    "runtime",
    {"litert": "edgepack.runtimes.litert:LiteRT"},
)
