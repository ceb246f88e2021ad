"""Sample providers: where the samples that train, calibrate and judge a model come from.

A provider is named by `provider = "…"` in a data table of the recipe. It finds the files, whose digest names the
samples, and loads them raw; `samples.py` draws, preprocesses and checks them. A new one is a file here and a line below.
"""

from edgepack.core.registry import Registry
from edgepack.data.protocol import Provider

PROVIDERS: Registry[type[Provider]] = Registry(
    "provider",
    {
        "digits": "edgepack.data.digits:Digits",
        "idx": "edgepack.data.idx:Idx",
        "image_folder": "edgepack.data.image_folder:ImageFolder",
        "npz": "edgepack.data.npz:Npz",
        "python": "edgepack.data.python:Python",
    },
)
