"""Compression methods. One file a method, one line here; the class's fields are the options of a `[[compress]]` table."""

from __future__ import annotations

from edgepack.core.registry import Registry
from edgepack.methods.protocol import Method

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "distill": "edgepack.methods.distill:Distill",
        "prune_entropy": "edgepack.methods.prune_entropy:PruneEntropy",
        "prune_channels": "edgepack.methods.prune_channels:PruneChannels",
        "low_rank": "edgepack.methods.low_rank:LowRank",
        "palettize": "edgepack.methods.palettize:Palettize",
        "prune_magnitude": "edgepack.methods.prune_magnitude:PruneMagnitude",
        "sort_channels": "edgepack.methods.sort_channels:SortChannels",
        "compress_weights": "edgepack.methods.compress_weights:CompressWeights",
        "quantize": "edgepack.methods.quantize:Quantize",
    },
)
