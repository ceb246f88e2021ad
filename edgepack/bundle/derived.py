"""The files of a bundle that follow from its manifest alone: they are written anew wherever the manifest changes."""

from __future__ import annotations

from edgepack.bundle.bom import bill_of_materials
from edgepack.bundle.card import model_card
from edgepack.bundle.manifest import Manifest
from edgepack.bundle.provenance import provenance

CARD_NAME = "README.md"
BOM_NAME = "bom.json"
PROVENANCE_NAME = "provenance.json"
DERIVED_NAMES = frozenset({CARD_NAME, BOM_NAME, PROVENANCE_NAME})


def derived_files(manifest: Manifest) -> dict[str, bytes]:
    """The model card, the bill of materials and the provenance of each variant, by entry name."""
    alone = len(manifest.variants) == 1
    return {
        CARD_NAME: model_card(manifest).encode(),
        BOM_NAME: bill_of_materials(manifest),
        **{
            PROVENANCE_NAME if alone else f"{variant.target}/{PROVENANCE_NAME}": provenance(manifest, variant)
            for variant in manifest.variants
        },
    }
