"""Export layouts: a bundle's files as other tools expect them. One file a layout, one line here."""

from __future__ import annotations

from edgepack.core.registry import Registry
from edgepack.layouts.protocol import ExportLayout

LAYOUTS: Registry[ExportLayout] = Registry(
    "layout",
    {
        "folder": "edgepack.layouts.folder:write_folder",
        "oci": "edgepack.layouts.oci:write_oci",
        "ovms": "edgepack.layouts.ovms:write_ovms",
    },
)
