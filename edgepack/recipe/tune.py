"""What `edgepack tune` searches for: `[tune]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from edgepack.core.section import Section
from edgepack.core.sizes import bytes_of
from edgepack.recipe.data import DataSection

SizeBytes = Annotated[int, BeforeValidator(bytes_of, json_schema_input_type=int | str)]


class TuneSection(Section):
    """What `edgepack tune` searches for, and with what; a build doesn't read it. See docs/tune.md."""

    max_size: SizeBytes | None = Field(
        default=None, gt=0, description='Largest size of the model, in bytes or with a unit: `"60 kB"`.'
    )
    size_of: Literal["wire", "file"] = Field(
        default="wire",
        description="What `max_size` limits: `wire`, the model file as `edgepack pack` packs it for the download, or the `file` itself.",
    )
    max_drop_points: float | None = Field(
        default=None, ge=0, le=100, description="Largest loss of the metric against the original, in percentage points."
    )
    max_latency_p50_ms: float | None = Field(
        default=None, gt=0, description="Largest median latency of one inference on the device that measures."
    )
    max_memory: SizeBytes | None = Field(
        default=None, gt=0, description="Largest peak resident memory of a process that runs the model there."
    )
    methods: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Methods to combine. Default: all that docs/tune.md lists."
    )
    layers: tuple[str, ...] = Field(
        default=(),
        description="Layers, by module name, that each pruning method may leave alone or not: the search tries both. Few are best, each doubles the space.",
    )
    sensitive_max: int = Field(
        default=3,
        ge=0,
        description="How many of the most sensitive layers each pruning method may leave alone: the search tries every number up to it. 0 leaves that out.",
    )
    steps_max: int = Field(
        default=1000,
        ge=1,
        description="Longest training, in optimizer steps, of a method that the recipe doesn't say how to train.",
    )
    selection: DataSection | str | None = Field(
        default=None,
        description="Labelled samples that trials are judged on, never those of `data.evaluation`. Default: a part of `data.train`, kept out of the trials' training.",
    )
    held_out: float = Field(
        default=0.2, gt=0, lt=0.9, description="How large that part is, as a share of the training samples."
    )
    sampler: Literal["tpe", "nsga2"] = Field(
        default="tpe",
        description="How the next trial is chosen: `tpe`, by a model of the past ones (Bergstra et al. 2011), or `nsga2`, by evolution (Deb et al. 2002), which takes hundreds of trials.",
    )
    track: tuple[str, ...] = Field(
        default=(),
        description="Where trials are written, too: `tensorboard`, `mlflow`. Needs `pip install 'edgepack[tune-tracking]'`.",
    )
