"""What a sample provider must do, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgepack.core.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSamples:
    """N samples before preprocessing, in the provider's fixed order.

    `samples` is an array whose first axis counts the samples, a list of encoded images (JPEG or PNG bytes), a list of
    uint8 images (H, W, C) of any sizes, or, for a model with several inputs, one array per input name.
    `labels` are N class indices of an integer dtype, or None; load_samples checks them. `origins` may say where each
    sample comes from, such as its file, for messages.
    """

    samples: Array | list[bytes] | list[Array] | dict[str, Array]
    labels: Array | None = None
    origins: tuple[str, ...] | None = None

    def describe(self, index: int) -> str:
        """How a message names the sample at a position."""
        return f"sample {index}" + ("" if self.origins is None else f" ({self.origins[index]})")

    def __len__(self) -> int:
        samples = next(iter(self.samples.values()), ()) if isinstance(self.samples, dict) else self.samples
        return len(samples)


class Provider(Protocol):
    """A frozen dataclass whose fields are the options of its data table, and `recipe_folder`, which edgepack fills in.

    Its __post_init__ raises ValueError for a value that can't be right. A property `labelled` that is False says that its samples have no labels; without one
    that is found out when they are loaded.
    """

    def files(self) -> tuple[Path, ...]:
        """Every file whose bytes determine the samples, in a fixed order; a folder's files stay together.

        Raises DataError that names a missing file or an unset ${VARIABLE}.
        """
        ...

    def load(self) -> RawSamples:
        """Read the samples. Raises DataError for a file that is damaged or not what the options say."""
        ...
