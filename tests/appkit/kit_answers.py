"""What edgepack itself says of a picture, for the tests that compare an app kit with it."""

from __future__ import annotations

from pathlib import Path

from app_bundles import ANSWER, STEPS

from edgepack.agent.postprocess import postprocess
from edgepack.agent.preprocess import preprocess
from edgepack.bundle import read_bundle
from edgepack.runtimes import RUNTIMES
from edgepack.runtimes.grid import quantize


def edgepacks_own_answer(bundle_path: Path, image: Path) -> list[tuple[int, str | None, float]]:
    """Index, label and score of the best classes by edgepack's runtime and the references."""
    bundle = read_bundle(bundle_path)
    variant = bundle.variant()
    values = preprocess([image.read_bytes()], STEPS)
    values = values.transpose(0, 2, 3, 1) if variant.inputs[0].layout == "NHWC" else values
    grid = variant.inputs[0].as_signature().quantization
    codes = values if grid is None else quantize(values, grid)
    path = bundle.model_path(bundle_path.parent / "cache")
    session = RUNTIMES.load(variant.model.runtime)().open(path)  # type: ignore[call-arg]
    output = session.run({session.inputs[0].name: codes})[session.outputs[0].name]
    described = variant.outputs[0].quantization
    quantization = None if described is None else described.model_dump(mode="json")
    answer: list[tuple[int, str | None, float]] = postprocess(
        output, ANSWER, quantization=quantization, labels=bundle.manifest.labels
    )[0]
    return answer
