"""What an app kit is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgepack.bundle import Bundle
from edgepack.bundle.manifest import Variant
from edgepack.signing.keys import PublicKey


class AppKit(Protocol):
    """Code for one kind of app: a pure function of the bundle, so that the same bundle gives the same bytes."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The model formats that its runtimes open: `tflite`, `onnx`, `openvino`."""

    def write(self, bundle: Bundle, variant: Variant, folder: Path, *, trusted_keys: Sequence[PublicKey] = ()) -> None:
        """Write the kit into an empty folder.

        `variant` is of one of `formats`. `trusted_keys` signed the bundle, which was checked; the generated code demands one of their
        signatures wherever it can check one. Raises UnsupportedError for a model that the kit has no code for.
        """
