"""What can be done with a bundle: run it, measure it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.bench import BenchModel, BenchProtocol, BenchResult
from edgepack.bench import bench as bench_models
from edgepack.bench.evaluation import evaluation_samples
from edgepack.bench.on_device import protocol_on
from edgepack.bundle import Bundle, read_bundle, report_name
from edgepack.bundle.manifest import ModelEntry, Variant
from edgepack.core.digest import sha256_file
from edgepack.core.errors import UsageError
from edgepack.core.files import cache_folder
from edgepack.core.types import Artifact, Progress, Signature, Silent
from edgepack.devices.address import open_device
from edgepack.devices.protocol import Transport
from edgepack.devices.provision import provisioned
from edgepack.plan import WORK_FOLDER
from edgepack.records import RunRecord
from edgepack.runtimes import RUNTIME_OF_FORMAT, RUNTIMES, Runtime
from edgepack.signing import Trust, load_trust
from edgepack.signing.trust import trusted_bundle
from edgepack.stages.export import read_export
from edgepack.store.cache import StageCache


def bench(
    bundle: Path,
    *,
    target: str | None = None,
    against_float: bool = False,
    against: Sequence[Path] = (),
    device: str = "local",
    inventory: Path | None = None,
    accuracy: Path | None = None,
    profile: bool = False,
    provision: bool = False,
    delegate: str | None = None,
    work_folder: Path | None = None,
    protocol: BenchProtocol | None = None,
    keep: Callable[[RunRecord], None] | None = None,
    trust: Trust | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure a bundle's variant (None: its only one) on a device, interleaved with its float model, and with other bundles, when asked.

    Labels are 'float', the name and version of each of `against`, and 'bundle'; the first is the baseline. `device` is an address or a name of `inventory` (devices.toml).
    `accuracy` is the recipe that the bundle was built from: its evaluation samples run on the device, too. `work_folder` is where the bundle was built
    (default: `.edgepack` beside the bundle's folder). `provision` brings the runtimes to a device that lacks them. `delegate` is a LiteRT delegate's library on the device,
    or "none" for the runtime's own kernels. `keep` gets every run as it ends. `trust` is by default that of this machine.

    Raises BundleError for a damaged bundle, SignatureError for one that the trust refuses, UsageError when the float model is not there, DataError when the recipe's samples are not those that the bundle
    was verified with, and what `edgepack.bench.bench` raises.
    """
    progress = progress or Silent()
    work_folder = work_folder or bundle.resolve().parent.parent / WORK_FOLDER
    opener = _Opener(trust or load_trust())
    models, borders = _models(
        bundle, target, against, opener=opener, against_float=against_float, work_folder=work_folder
    )
    if delegate is not None:
        models = [_with_delegate(model, delegate) for model in models]
    runtimes = sorted({model.runtime for model in models}) if provision else []
    reach = partial(open_with_runtimes, device, inventory, runtimes, progress)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder, reach() as reached:
        samples = None
        if accuracy is not None:
            opened = read_bundle(bundle)
            samples = evaluation_samples(
                accuracy,
                opened,
                models,
                borders,
                variant=opened.variant(target),
                folder=Path(folder),
                progress=progress,
            )
        result = bench_models(
            models,
            device=reached,
            protocol=protocol_on(device, protocol or BenchProtocol(), inventory=inventory),
            progress=progress,
            samples=samples,
            profile=profile,
            keep=keep,
            reopen=reach,
        )
    return replace(result, warnings=(*opener.warnings, *result.warnings))


def open_with_runtimes(device: str, inventory: Path | None, runtimes: Sequence[str], progress: Progress) -> Transport:
    """The device, with the packages of `runtimes` brought there."""
    reached = open_device(device, inventory=inventory)
    if not runtimes:
        return reached
    progress.start(f"Bringing {' and '.join(runtimes)} to the device")
    try:
        with_packages = provisioned(reached, *runtimes, note=lambda line: progress.advance(0, note=line))
    except BaseException:
        reached.close()
        raise
    progress.done()
    return with_packages


def open_runtime(bundle: Bundle, variant: Variant | None = None) -> Runtime:
    """The runtime that a variant (None: the only one) was verified in, with its options. Raises RecipeError for one that this edgepack doesn't know."""
    about = (variant or bundle.variant()).model
    kind = RUNTIMES.load(_runtime_of(about))
    return kind.model_validate(about.runtime_options if about.runtime else {})


def float_artifact(bundle: Bundle, *, work_folder: Path, variant: Variant | None = None) -> Artifact | None:
    """The float model of the build that made a variant (None: the only one), from its work folder; None when it is not there."""
    lineage = (variant or bundle.variant()).lineage.get("float_model")
    key = lineage.get("key") if isinstance(lineage, dict) else None
    cache = StageCache(work_folder)
    folder = cache.find("baseline", str(key)) if key is not None else None
    return None if folder is None else read_export(str(key), folder).artifact


def _models(
    bundle: Path,
    target: str | None,
    against: Sequence[Path],
    *,
    opener: _Opener,
    against_float: bool,
    work_folder: Path,
) -> tuple[list[BenchModel], dict[str, tuple[Signature, ...]]]:
    """What is measured, the baseline first, and the inputs of each by label."""
    models: list[BenchModel] = []
    borders: dict[str, tuple[Signature, ...]] = {}
    opened = opener.open(bundle)
    chosen = opened.variant(target)
    if against_float:
        original = float_artifact(opened, work_folder=work_folder, variant=chosen)
        if original is None:
            raise UsageError(
                f"{work_folder}: the float model of this bundle is not there; build it here first, or name the place with --work-dir"
            )
        models.append(_to_measure("float", (original.path, *original.companions), original.sha256, opened, chosen))
        borders["float"] = original.inputs
    for path in (*against, bundle):
        one = opened if path is bundle else opener.open(path)
        variant = one.variant_like(chosen.target)
        label = "bundle" if path is bundle else f"{one.manifest.name} {one.manifest.version} {variant.target}"
        while label in borders:
            label += "'"
        models.append(_of_bundle(one, variant, label=label, work_folder=work_folder))
        borders[label] = tuple(item.as_signature() for item in variant.inputs)
    return models, borders


def _with_delegate(model: BenchModel, delegate: str) -> BenchModel:
    if model.runtime != "litert":
        raise UsageError(
            f"--delegate: {model.label} runs in {model.runtime}; only LiteRT takes a delegate, so leave it out"
        )
    return replace(model, runtime_options={**model.runtime_options, "delegate": delegate})


def bench_model(bundle: Path, *, label: str = "bundle", target: str | None = None) -> BenchModel:
    """The model of a bundle's variant (None: its only one), to be measured. Raises BundleError for a damaged bundle, or one that this machine doesn't trust."""
    opened, _ = trusted_bundle(bundle)
    return variant_model(opened, opened.variant_like(target), label=label)


def variant_model(opened: Bundle, variant: Variant, *, label: str = "bundle") -> BenchModel:
    """The model of a variant of a bundle that was checked, to be run or measured."""
    return _of_bundle(opened, variant, label=label, work_folder=None)


def _of_bundle(opened: Bundle, variant: Variant, *, label: str, work_folder: Path | None) -> BenchModel:
    about, model = variant.model, opened.model_path(_models_folder(work_folder), variant)
    files = (model, *(model.parent / PurePosixPath(item.path).name for item in about.companions))
    return _to_measure(label, files, about.sha256, opened, variant)


class _Opener:
    """Opens bundles that are whole and trusted, and keeps what the trust warns of."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self.warnings: list[str] = []

    def open(self, path: Path) -> Bundle:
        opened, found = trusted_bundle(path, trust=self._trust)
        self.warnings += found.warnings
        return opened


def _to_measure(label: str, files: tuple[Path, ...], sha256: str, bundle: Bundle, variant: Variant) -> BenchModel:
    return BenchModel(
        label=label,
        path=files[0],
        companions=files[1:],
        sha256=sha256,
        size_bytes=sum(one.stat().st_size for one in files),
        runtime=_runtime_of(variant.model),
        runtime_options=variant.model.runtime_options,
        bundle=bundle.manifest.name,
        version=bundle.manifest.version,
        target=variant.target,
        bundle_sha256=sha256_file(bundle.path),
        tensors={} if label == "float" else _tensors(bundle, variant),
    )


def _tensors(bundle: Bundle, variant: Variant) -> dict[str, Any]:
    name = report_name(bundle, variant, "tensors.json")
    return dict(json.loads(bundle.read(name))) if name is not None else {}


def _runtime_of(model: ModelEntry) -> str:
    return model.runtime or RUNTIME_OF_FORMAT[model.format]


def _models_folder(work_folder: Path | None) -> Path:
    """Where models are unpacked to be run, by digest."""
    return (work_folder if work_folder is not None and work_folder.is_dir() else cache_folder()) / "models"
