"""What an export layout is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant


class ExportLayout(Protocol):
    """A way to lay out a bundle's files: a pure function of the bundle, so that the same bundle gives the same bytes."""

    def __call__(self, bundle: Bundle, variant: Variant | None, folder: Path) -> None:
        """Write the files into an empty folder.

        `variant` is the one that was asked for by name, or None. Raises UsageError where the layout needs one and there are
        several, UnsupportedError for a model that it has no place for.
        """
