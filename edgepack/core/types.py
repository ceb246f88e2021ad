"""The nouns that travel between stages. Frozen values, no behaviour beyond reading them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:  # importing NumPy takes as long as reading a bundle, and no value here makes an array
    Array = Any
Layout = Literal["NCHW", "NHWC", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a network in float: its name, shape with the batch dimension first, dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: Layout = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantParams:
    """The grid of a tensor: real = scale × (code − zero_point).

    One scale and zero point for the whole tensor, or one per slice along `axis`. `dtype` "int4" are weights' codes -7 … 7: a file may hold them two
    a byte, or as int8.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dtype: str = "int8"
    axis: int | None = None

    @property
    def step(self) -> float:
        """The largest distance between two neighbouring values."""
        return max(self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The grid of a whole network: activations by operation name, weights by parameter name of the float network.

    `shapes` are those of the weights by the same names, where they are known.
    """

    activations: Mapping[str, QuantParams]
    weights: Mapping[str, QuantParams]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> Grid:
        """What `as_dict` wrote, also after a round through JSON."""

        def params(table: Mapping[str, Any]) -> dict[str, QuantParams]:
            return {
                name: QuantParams(
                    scale=tuple(one["scale"]), zero_point=tuple(one["zero_point"]), dtype=one["dtype"], axis=one["axis"]
                )
                for name, one in table.items()
            }

        return cls(
            activations=params(item["activations"]),
            weights=params(item["weights"]),
            shapes={name: tuple(shape) for name, shape in item["shapes"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One input or output of an artifact as an app sees it; `quantization` is None for a float tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout = "any"
    quantization: QuantParams | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file on disk, named by its digest.

    `companions` are the files that the runtime opens beside it (OpenVINO's weights); `size_bytes` counts them, too, and `sha256` is that of `path`.
    """

    path: Path
    sha256: str
    size_bytes: int
    format: str
    companions: tuple[Path, ...] = ()
    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A value against a limit, with the evidence.

    `ci95` is a 95 % confidence interval of the value, or None where the value is exact (bytes).
    """

    kind: Literal["fidelity", "accuracy", "budget", "parity"]
    name: str
    value: float
    limit: float
    direction: Literal["max", "min"]
    samples: int | None = None
    ci95: tuple[float, float] | None = None
    method: str = ""

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.direction == "max" else self.value >= self.limit

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ci95": list(self.ci95) if self.ci95 else None, "passed": self.passed}

    @classmethod
    def from_dict(cls, item: Mapping[str, Any]) -> Check:
        """What `as_dict` wrote."""
        values = {name: value for name, value in item.items() if name != "passed"}
        return cls(**{**values, "ci95": None if values["ci95"] is None else tuple(values["ci95"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Preprocessed samples: `inputs[name]` has shape (N, …) and the dtype of that input; labels are class indices or None."""

    inputs: Mapping[str, Array]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: NDArray[np.intp] | slice) -> Samples:
        """The samples at some positions, in that order."""
        return Samples(
            inputs={name: array[indices] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[indices],
        )

    def batches(self, size: int) -> Iterator[Samples]:
        """Consecutive batches; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


class SampleSource(Protocol):
    """Samples by position: all in memory (`Samples`), or made when taken."""

    @property
    def labels(self) -> NDArray[np.int64] | None: ...

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.intp] | slice) -> Samples: ...


class Progress(Protocol):
    """Where long work says how far it is. The command line draws it; the Python API is silent by default."""

    def start(self, what: str, *, total: int | None = None) -> None:
        """A new step begins; `total` is its number of units, or None where unknown."""

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """Some units of the current step are done; `note` is a short fact such as 'loss 0.031'."""

    def done(self, note: str = "") -> None:
        """The current step has ended well."""

    def note(self, text: str) -> None:
        """A line worth keeping that is no step."""


@dataclass(slots=True)
class Silent:
    """A Progress that only remembers its notes."""

    notes: list[str] = field(default_factory=list)

    def start(self, what: str, *, total: int | None = None) -> None:
        return None

    def advance(self, units: int = 1, *, note: str = "") -> None:
        return None

    def done(self, note: str = "") -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)
