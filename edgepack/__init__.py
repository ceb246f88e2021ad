"""edgepack: from a trained model to an app-ready bundle, proven small, fast and still right."""

__version__ = "0.1.0"
