"""Where two bundles of one model part: the first tensor that diverges, with its layer, its ranges and its values.

Both run the same inputs with every tensor kept; tensors that are the same operation of the network (reports/tensors.json of each bundle) are
put beside each other in the order in which the first bundle's runtime runs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.bundle import Bundle, report_name
from edgepack.bundle.golden import read_golden
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import UsageError
from edgepack.core.files import cache_folder
from edgepack.core.types import Array, Progress, Silent
from edgepack.opened import open_runtime
from edgepack.runtimes import Session
from edgepack.runtimes.grid import dequantize
from edgepack.signing.trust import trusted_bundle
from edgepack.stages.divergence import DIVERGED_BELOW_DB, in_layout_of, sqnr_db

# Two right kernels round a few values one code apart, and what was rounded apart grows slowly from layer to layer. A wrong weight, range or
# operator is a jump: more than this many steps on average beyond this many times what any earlier tensor had.
JUMP_STEPS = 0.05
JUMP_FACTOR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One bundle's tensor: its name there, its grid, the range of its values and the value where both differ most."""

    tensor: str
    scale: float
    zero_point: int
    low: float
    high: float
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """One operation in both bundles.

    `sqnr_db` is 10·log10(Σ a² / Σ (a − b)²), 200 for equal tensors; steps are those of a's grid; `worst_index` is where in the network's
    layout of a's tensor (sample first) both differ most.
    """

    operation: str
    a: Side
    b: Side
    sqnr_db: float
    mean_steps: float
    max_steps: float
    worst_index: tuple[int, ...]

    @property
    def same_grid(self) -> bool:
        """Whether both compute it on one grid, whatever integers count it."""
        return bool(np.isclose(self.a.scale, self.b.scale, rtol=1e-6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two bundles compared. `tensors` is in execution order; the `only_in` fields name operations that one of them computes without a tensor of its own."""

    a: str
    b: str
    samples: int
    tensors: tuple[TensorDifference, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]

    @property
    def first(self) -> TensorDifference | None:
        """The first tensor that differs by more than rounding explains: another grid, less than 20 dB, or a jump; None when none does."""
        largest = 0.0
        for one in self.tensors:
            jumped = one.mean_steps > JUMP_STEPS + JUMP_FACTOR * largest
            if jumped or one.sqnr_db < DIVERGED_BELOW_DB or not one.same_grid:
                return one
            largest = max(largest, one.mean_steps)
        return None

    @property
    def first_rounding(self) -> TensorDifference | None:
        """The first tensor that differs at all."""
        return next((one for one in self.tensors if one.max_steps > 0.01), None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        content = asdict(self)
        for item, one in zip(content["tensors"], self.tensors, strict=True):
            item["same_grid"] = one.same_grid
        return {**content, "first": None if self.first is None else self.first.operation}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A bundle and which of its variants is compared."""

    bundle: Bundle
    variant: Variant


def diff(
    a: Path,
    b: Path,
    *,
    targets: tuple[str | None, str | None] = (None, None),
    samples: int | None = None,
    progress: Progress | None = None,
) -> Difference:
    """Compare two bundles on the golden inputs of the first, or the first `samples` of them.

    `targets` are the variants of both (None: the only one). Raises BundleError for a damaged bundle, and UsageError when the two are not of one model.
    """
    progress = progress or Silent()
    first, second = (_opened(path, target) for path, target in zip((a, b), targets, strict=True))
    names = [tuple(item.name for item in one.variant.inputs) for one in (first, second)]
    tables = [_tensors(one) for one in (first, second)]
    shared = [entry["operation"] for entry in tables[0].values() if entry["operation"] in _by_operation(tables[1])]
    if names[0] != names[1] or not shared:
        raise UsageError(
            f"{a.name} and {b.name} are not of one model: they share no operation; compare bundles of one build"
        )
    inputs = _real_inputs(first, samples)
    count = len(next(iter(inputs.values())))
    progress.start("Running both with every tensor kept", total=2 * count)
    ours, order = _run(first, inputs, list(tables[0]), progress)
    theirs, _ = _run(second, _turned(inputs, first, second), list(tables[1]), progress)
    progress.done()
    second_names = _by_operation(tables[1])
    found = [
        _compare(tables[0][name], name, ours[name], tables[1][other], other, theirs[other])
        for name in order
        if (other := second_names.get(tables[0][name]["operation"])) is not None and other in theirs
    ]
    known = {one.operation for one in found}
    return Difference(
        a=_title(first),
        b=_title(second),
        samples=count,
        tensors=tuple(found),
        only_in_a=tuple(entry["operation"] for entry in tables[0].values() if entry["operation"] not in known),
        only_in_b=tuple(entry["operation"] for entry in tables[1].values() if entry["operation"] not in known),
    )


def _opened(path: Path, target: str | None) -> _Opened:
    bundle, _ = trusted_bundle(path)
    return _Opened(bundle=bundle, variant=bundle.variant(target))


def _title(one: _Opened) -> str:
    about, variant = one.bundle.manifest, one.variant
    return f"{about.name} {about.version} {variant.target} ({variant.model.runtime or variant.model.format})"


def _tensors(one: _Opened) -> dict[str, dict[str, Any]]:
    bundle = one.bundle
    name = report_name(bundle, one.variant, "tensors.json")
    if name is None:
        raise UsageError(
            f"{bundle.path}: has no reports/tensors.json, so its tensors can't be told apart; build it anew"
        )
    content: dict[str, dict[str, Any]] = json.loads(bundle.read(name))
    return content


def _by_operation(table: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {str(entry["operation"]): name for name, entry in table.items()}


def _real_inputs(one: _Opened, samples: int | None) -> dict[str, Array]:
    golden = read_golden(one.bundle, one.variant).inputs
    signatures = {item.name: item.as_signature() for item in one.variant.inputs}
    real: dict[str, Array] = {}
    for name, codes in golden.items():
        grid = signatures[name].quantization
        real[name] = (codes if grid is None else dequantize(codes, grid))[:samples]
    return real


def _turned(inputs: Mapping[str, Array], first: _Opened, second: _Opened) -> dict[str, Array]:
    """The first bundle's inputs in the layouts of the second's."""
    layouts = [{item.name: item.layout for item in one.variant.inputs} for one in (first, second)]
    moves = {("NCHW", "NHWC"): (0, 2, 3, 1), ("NHWC", "NCHW"): (0, 3, 1, 2)}
    turned: dict[str, Array] = {}
    for name, array in inputs.items():
        axes = moves.get((layouts[0][name], layouts[1][name]))
        turned[name] = array if axes is None else np.ascontiguousarray(array.transpose(axes))
    return turned


def _run(
    one: _Opened, inputs: Mapping[str, Array], names: list[str], progress: Progress
) -> tuple[dict[str, Array], list[str]]:
    """The named tensors of all samples as real values, and their names in the order of execution."""
    session: Session = open_runtime(one.bundle, one.variant).open(
        one.bundle.model_path(cache_folder() / "models", one.variant), keep_tensors=True
    )
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for index in range(len(next(iter(inputs.values())))):
        session.run_float({name: array[index : index + 1] for name, array in inputs.items()})
        values = session.tensors()
        for name in names:
            if name in values:
                parts[name].append(values[name])
        progress.advance()
    produced = [name for operator in session.operators() for name in operator.outputs]
    place = {name: index for index, name in reversed(list(enumerate(produced)))}
    found = {name: np.concatenate(values) for name, values in parts.items() if values}
    return found, sorted(found, key=lambda name: place.get(name, -1))


def _compare(
    a_entry: Mapping[str, Any], a_name: str, a: Array, b_entry: Mapping[str, Any], b_name: str, b: Array
) -> TensorDifference:
    ours, aligned = in_layout_of(a, b)
    apart = np.abs(ours.astype(np.float64) - aligned)
    step = max(a_entry["scale"])
    worst = np.unravel_index(int(apart.argmax()), apart.shape)

    def side(entry: Mapping[str, Any], name: str, values: Array) -> Side:
        return Side(
            tensor=name,
            scale=float(entry["scale"][0]),
            zero_point=int(entry["zero_point"][0]),
            low=float(values.min()),
            high=float(values.max()),
            worst=float(values[worst]),
        )

    return TensorDifference(
        operation=str(a_entry["operation"]),
        a=side(a_entry, a_name, ours),
        b=side(b_entry, b_name, aligned),
        sqnr_db=round(sqnr_db(ours, aligned), 2),
        mean_steps=round(float(apart.mean()) / step, 4),
        max_steps=round(float(apart.max()) / step, 3),
        worst_index=tuple(int(index) for index in worst),
    )
