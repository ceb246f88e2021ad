"""The handwritten digits that scikit-learn carries: real samples without a download."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgepack.core.errors import DataError, EnvironmentProblem
from edgepack.core.types import Array
from edgepack.data.protocol import RawSamples

_FILE = Path("datasets") / "data" / "digits.csv.gz"
_BRIGHTEST = 16  # the set counts 0…16 inked pixels per 4x4 block (UCI, Optical Recognition of Handwritten Digits)
_TEST_EVERY, _TEST_AT = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """1797 gray images of digits, (N, 8, 8) uint8 in 0…255, with labels 0…9.

    Every third image (index % 3 == 2) is in the test split, 599 of them; the other 1198 are in the training split.
    The file inside scikit-learn is read as it lies; scikit-learn itself is not imported.
    """

    recipe_folder: Path
    split: Literal["train", "test"]

    def files(self) -> tuple[Path, ...]:
        """Raises EnvironmentProblem when scikit-learn is not installed."""
        spec = importlib.util.find_spec("sklearn")
        if spec is None or not spec.submodule_search_locations:
            raise EnvironmentProblem(
                "provider 'digits' reads a file of scikit-learn, which is not installed; "
                "install it with: pip install scikit-learn"
            )
        file = Path(spec.submodule_search_locations[0]) / _FILE
        if not file.is_file():
            raise DataError(
                f"{file}: not in this scikit-learn; install it again with: pip install --force-reinstall scikit-learn"
            )
        return (file,)

    def load(self) -> RawSamples:
        table = _table(self.files()[0])
        is_test = np.arange(len(table)) % _TEST_EVERY == _TEST_AT
        rows = table[is_test if self.split == "test" else ~is_test]
        images = np.round(rows[:, :-1] * 255 / _BRIGHTEST).astype(np.uint8)
        return RawSamples(samples=images.reshape(-1, 8, 8), labels=rows[:, -1].astype(np.int64))


def _table(file: Path) -> Array:
    """(1797, 65): 64 values 0…16 and the label."""
    try:
        with gzip.open(file, "rt", encoding="ascii") as text:
            table = np.loadtxt(text, delimiter=",")
    except (OSError, EOFError, ValueError) as exc:
        raise DataError(f"{file}: can't be read ({exc}); install scikit-learn again") from exc
    if table.ndim != 2 or table.shape[1] != 65:
        raise DataError(f"{file}: has shape {table.shape}, (1797, 65) is needed; install scikit-learn again")
    return table
