"""Where a trained model comes from. One file a kind of source, one line here."""

from __future__ import annotations

from edgepack.core.registry import Registry
from edgepack.sources.protocol import Source

SOURCES: Registry[type[Source]] = Registry("source", {"torch_factory": "edgepack.sources.torch_factory:TorchFactory"})
