"""Export: the artifact that ships, and before any training the proof that the target can take the network at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.bundle.code_places import code_places
from edgepack.core.digest import sha256_file
from edgepack.core.errors import UnsupportedError
from edgepack.core.files import write_json
from edgepack.core.types import Artifact, Grid, Layout, Progress, QuantParams, Signature
from edgepack.exporters.protocol import Exported
from edgepack.methods.protocol import student_of
from edgepack.plan import BuildPlan, file_digests
from edgepack.runtimes import Execution
from edgepack.stages.load import Stored
from edgepack.stages.samples import samples_of
from edgepack.store.cache import StageCache

if TYPE_CHECKING:
    from edgepack.network.model import Model
    from edgepack.targets import NumericConstraints

_FACTS = "export.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """The artifact of a stage, with what later stages compare: tensors and the operations they are, and named deviations.

    `grid` is the network's whole grid, None for a model without one, and `codes` says where in the files its weights stand; `steps` are the facts of each compression step,
    `edits` what they did to the channels.
    """

    key: str
    folder: Path
    artifact: Artifact
    tensors: Mapping[str, tuple[str, QuantParams]]
    extra_operators: tuple[str, ...]
    execution: Execution
    notes: tuple[str, ...]
    grid: Grid | None
    codes: Mapping[str, Mapping[str, Any]]
    steps: tuple[Mapping[str, Any], ...]
    edits: tuple[Mapping[str, Any], ...]


def baseline(
    plan: BuildPlan, cache: StageCache, loaded: Stored, progress: Progress, *, is_student: bool = False
) -> ExportedModel:
    """The original float model as the target runs it: what a bundle is compared with. Or a student as it is before it learns.

    When the recipe quantizes, also lays the integer graph of the one that ships out with made-up ranges, so that an operator the target can't take stops
    the build here, named, before any training. Raises UnsupportedError.
    """
    key = baseline_key(plan, loaded.key, is_student=is_student)
    constraints = _grid_to_check(plan, is_student=is_student)

    def work(scratch: Path) -> dict[str, Any]:
        model = loaded.open(plan)
        probe = samples_of(plan, plan.calibration, first=1)
        done = plan.exporter.check(model, probe, scratch, constraints=constraints, progress=progress)
        return _record(plan, _layouts(plan, model), scratch, done)

    return read_export(key, cache.run("baseline", key, work, progress=progress))


def export(plan: BuildPlan, cache: StageCache, compressed: Stored, progress: Progress) -> ExportedModel:
    """The compressed model as the target's file. Raises UnsupportedError for an operator that the target can't take."""
    key = export_key(plan, compressed.key)

    def work(scratch: Path) -> dict[str, Any]:
        model = compressed.open(plan)
        probe = samples_of(plan, plan.calibration, first=1)
        done = plan.exporter.export(model, probe, scratch, progress=progress)
        limit = plan.target.limits.model_bytes_max
        if limit is not None and done.path.stat().st_size > limit:
            raise UnsupportedError(
                f"the model file has {done.path.stat().st_size:,} bytes; {plan.target_name} opens at most {limit:,}"
            )
        return _record(plan, _layouts(plan, model), scratch, done, made_from=model)

    return read_export(key, cache.run("export", key, work, progress=progress))


def adopt(plan: BuildPlan, cache: StageCache, progress: Progress) -> ExportedModel:
    """A finished model file, taken over as it is. Raises UnsupportedError where the target can't take it."""
    key = adopt_key(plan)

    def work(scratch: Path) -> dict[str, Any]:
        (source,) = plan.source.files()
        path = scratch / f"model{source.suffix}"
        shutil.copyfile(source, path)
        layouts: dict[str, Layout] = {"CHW": "NCHW", "HWC": "NHWC", "any": "any"}
        return _record(
            plan, {item.name: layouts[item.layout] for item in plan.inputs}, scratch, plan.exporter.adopt(path)
        )

    return read_export(key, cache.run("export", key, work, progress=progress))


def adopt_key(plan: BuildPlan) -> str:
    """The key of a finished model file."""
    digests = list(file_digests(plan.source.files()).values())
    return plan.key("adopt", digests, [item.model_dump(mode="json") for item in plan.inputs], *_export_inputs(plan))


def baseline_key(plan: BuildPlan, loaded: str, *, is_student: bool = False) -> str:
    """The key of the baseline of the model with key `loaded`."""
    grid = _grid_to_check(plan, is_student=is_student)
    return plan.key("baseline", loaded, *_export_inputs(plan), grid.model_dump(mode="json") if grid else None)


def export_key(plan: BuildPlan, compressed: str) -> str:
    """The key of the artifact of the model with key `compressed`."""
    return plan.key("export", compressed, *_export_inputs(plan), plan.target.limits.model_dump(mode="json"))


def _grid_to_check(plan: BuildPlan, *, is_student: bool) -> NumericConstraints | None:
    """The grid of the network that ships, which is the student's where there is one; None for a network that stays float."""
    ships = is_student == any(student_of(method) is not None for _, method in plan.steps)
    return plan.constraints if ships and any(name == "quantize" for name, _ in plan.steps) else None


def _export_inputs(plan: BuildPlan) -> tuple[Any, ...]:
    return (
        plan.target.exporter,
        plan.exporter.model_dump(mode="json"),
        plan.target.runtime,
        plan.runtime.model_dump(mode="json"),
        plan.recipe.export.model_dump(mode="json"),
        dict(plan.calibration.fingerprint),
        list(plan.preprocess),
    )


def _record(
    plan: BuildPlan,
    layouts: Mapping[str, Layout],
    folder: Path,
    done: Exported,
    *,
    made_from: Model | None = None,
) -> dict[str, Any]:
    """Open the file as an app would, and write down its signature and the operators it has more than the float graph."""
    path = done.path
    session = plan.runtime.open(path)
    extra = [operator.name for operator in session.operators()]
    expected = [operator.name for operator in plan.runtime.open(done.float_path).operators()]
    for name in (*expected, *done.added):
        if name in extra:
            extra.remove(name)
    write_json(
        folder / _FACTS,
        {
            "file": path.name,
            "companions": [companion.name for companion in done.companions],
            "format": done.format,
            "inputs": [{**asdict(item), "layout": layouts.get(item.name, "any")} for item in session.inputs],
            "outputs": [asdict(item) for item in session.outputs],
            "tensors": {name: {"op": op, "params": asdict(params)} for name, (op, params) in done.tensors.items()},
            "extra_operators": sorted(extra),
            "execution": asdict(session.execution),
            "notes": list(done.notes),
            "grid": None if done.grid is None else done.grid.as_dict(),
            "codes": code_places(done.codes, [path, *done.companions]),
            "steps": [] if made_from is None else list(made_from.lineage),
            "edits": [] if made_from is None else list(made_from.edits),
        },
    )
    return {
        "file": path.name,
        "companions": [companion.name for companion in done.companions],
        "size_bytes": sum(file.stat().st_size for file in (path, *done.companions)),
        "sha256": sha256_file(path),
        "notes": list(done.notes),
    }


def _layouts(plan: BuildPlan, model: Model) -> dict[str, Layout]:
    """What the dimensions of each input mean at the file's border."""
    return {spec.name: _border_layout(spec.layout, plan) for spec in model.inputs}


def _border_layout(layout: Layout, plan: BuildPlan) -> Layout:
    return "NHWC" if layout == "NCHW" and plan.recipe.export.io_layout == "NHWC" else layout


def read_export(key: str, folder: Path) -> ExportedModel:
    """What a baseline or an export stage wrote."""
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    path = folder / facts["file"]
    companions = tuple(folder / name for name in facts["companions"])
    return ExportedModel(
        key=key,
        folder=folder,
        artifact=Artifact(
            path=path,
            sha256=sha256_file(path),
            size_bytes=sum(file.stat().st_size for file in (path, *companions)),
            companions=companions,
            format=facts["format"],
            inputs=tuple(_signature(item) for item in facts["inputs"]),
            outputs=tuple(_signature(item) for item in facts["outputs"]),
        ),
        tensors={name: (item["op"], _params(item["params"])) for name, item in facts["tensors"].items()},
        extra_operators=tuple(facts["extra_operators"]),
        execution=Execution(
            device=facts["execution"]["device"],
            types=facts["execution"]["types"],
            notes=tuple(facts["execution"]["notes"]),
        ),
        notes=tuple(facts["notes"]),
        codes=facts["codes"],
        grid=None if facts["grid"] is None else Grid.from_dict(facts["grid"]),
        steps=tuple(facts["steps"]),
        edits=tuple(facts["edits"]),
    )


def _signature(item: dict[str, Any]) -> Signature:
    quantization = item["quantization"]
    return Signature(
        name=item["name"],
        shape=tuple(item["shape"]),
        dtype=item["dtype"],
        layout=item["layout"],
        quantization=None if quantization is None else _params(quantization),
    )


def _params(item: dict[str, Any]) -> QuantParams:
    return QuantParams(
        scale=tuple(item["scale"]), zero_point=tuple(item["zero_point"]), dtype=item["dtype"], axis=item["axis"]
    )
