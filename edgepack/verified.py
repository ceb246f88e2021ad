"""A bundle proven: every byte, every signature, and its golden samples, here or on a device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgepack.bench.golden import run_on_device
from edgepack.bundle import Bundle
from edgepack.bundle.golden import GoldenResult, check_golden, read_golden
from edgepack.bundle.manifest import Variant
from edgepack.core.errors import DeviceLost, EnvironmentProblem, UsageError
from edgepack.core.files import cache_folder
from edgepack.core.types import Array, Progress, Silent
from edgepack.devices.protocol import Transport
from edgepack.opened import open_runtime, open_with_runtimes, variant_model
from edgepack.records import DeviceName
from edgepack.signing import Trust, TrustResult
from edgepack.signing.trust import trusted_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantResult:
    """How the golden samples of one variant fare; `not_run` says why there are no results, '' where there are. `runtime` names it with its version, '' where it was not asked."""

    target: str
    golden: tuple[GoldenResult, ...] = ()
    not_run: str = ""
    runtime: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """A bundle that is whole, who signed it, and how its golden samples fare, one result per variant that was asked for. `device` is None for this machine."""

    bundle: Bundle
    trust: TrustResult
    variants: tuple[VariantResult, ...]
    device: DeviceName | None = None

    @property
    def golden(self) -> tuple[GoldenResult, ...]:
        """The results of all variants."""
        return tuple(result for variant in self.variants for result in variant.golden)

    @property
    def passed(self) -> bool:
        """Whether every golden output is within its tolerance."""
        return all(result.passed for result in self.golden)


def verify(
    bundle: Path,
    *,
    target: str | None = None,
    device: str | None = None,
    inventory: Path | None = None,
    provision: bool = False,
    threads: int = 1,
    trust: Trust | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Check every file and signature of a bundle, and run the golden inputs of a variant; None: of every variant, those of a runtime that is missing left out.

    They run on this machine, or on `device`, an address or a name of `inventory` (devices.toml); `provision` brings the runtimes there. `trust` is by
    default that of this machine.

    Raises BundleError when it is damaged, SignatureError when it is not trusted, UsageError where a device is named and there is nothing to run, what
    the runtime raises where the variant is the only one or was named, and DeviceLost.
    """
    progress = progress or Silent()
    progress.start("Checking every file")
    opened, trusted = trusted_bundle(bundle, trust=trust)
    progress.done(f"{len(opened.names)} files")
    single = target is not None or len(opened.manifest.variants) == 1
    chosen = (opened.variant(target),) if single else opened.manifest.variants
    result = VerifyResult(bundle=opened, trust=trusted, variants=())
    if device is None:
        here = _Here(opened, threads)
        return replace(
            result, variants=tuple(_run(here, one, optional=not single, progress=progress) for one in chosen)
        )
    if all(one.golden is None for one in chosen):
        raise UsageError(f"{bundle}: has no golden samples, so there is nothing to run on {device}")
    runtimes = sorted({variant_model(opened, one).runtime for one in chosen}) if provision else []
    with open_with_runtimes(device, inventory, runtimes, progress) as reached:
        there = _There(opened, threads, reached)
        found = tuple(_run(there, one, optional=not single, progress=progress) for one in chosen)
        name = reached.describe()
    if not any(one.golden for one in found):
        raise EnvironmentProblem(f"{device}: no variant could be run; {'; '.join(one.not_run for one in found)}")
    return replace(result, variants=found, device=name)


@dataclass(frozen=True, slots=True)
class _Here:
    """Runs golden inputs in this process."""

    bundle: Bundle
    threads: int

    def outputs(self, variant: Variant) -> tuple[dict[str, Array], str]:
        model = self.bundle.model_path(cache_folder() / "models", variant)
        session = open_runtime(self.bundle, variant).open(model, threads=self.threads)
        return dict(session.run(read_golden(self.bundle, variant).inputs)), ""


@dataclass(frozen=True, slots=True)
class _There:
    """Runs golden inputs on a device."""

    bundle: Bundle
    threads: int
    device: Transport

    def outputs(self, variant: Variant) -> tuple[dict[str, Array], str]:
        model = variant_model(self.bundle, variant, label=variant.target)
        inputs = read_golden(self.bundle, variant).inputs
        outputs, report = run_on_device(model, inputs, device=self.device, threads=self.threads)
        return outputs, f"{report.environment.runtime} {report.environment.runtime_version}"


def _run(place: _Here | _There, variant: Variant, *, optional: bool, progress: Progress) -> VariantResult:
    if variant.golden is None:
        return VariantResult(target=variant.target, not_run="it has no golden samples")
    progress.start(f"Running the golden samples of {variant.target}")
    try:
        outputs, runtime = place.outputs(variant)
    except DeviceLost:
        raise
    except EnvironmentProblem as exc:
        if not optional:
            raise
        progress.done(f"not possible: {exc}")
        return VariantResult(target=variant.target, not_run=str(exc))
    progress.done()
    golden = check_golden(place.bundle, outputs, variant)
    return VariantResult(target=variant.target, golden=golden, runtime=runtime)
