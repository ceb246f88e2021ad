"""App kits: ready code for the app that uses a bundle. One folder a kit, one line here; its templates lie beside it."""

from __future__ import annotations

from edgepack.appkit.protocol import AppKit
from edgepack.core.registry import Registry

APPKITS: Registry[AppKit] = Registry(
    "app kit",
    {
        "android": "edgepack.appkit.android.kit:ANDROID",
        "android-ai-pack": "edgepack.appkit.android.kit:ANDROID_AI_PACK",
        "cpp": "edgepack.appkit.cpp.kit:CPP",
        "ios": "edgepack.appkit.ios.kit:IOS",
        "python": "edgepack.appkit.python.kit:PYTHON",
        "web": "edgepack.appkit.web.kit:WEB",
    },
)
