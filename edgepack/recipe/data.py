"""Where samples come from and how they reach the model: `[data]` and `[[preprocess]]`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from edgepack.core.section import Section


class PreprocessStep(Section):
    """One preprocessing step; `op` names it and the other keys are its options. See docs/data.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    op: str = Field(description="`grayscale`, `center_crop`, `resize`, `to_float`, `normalize` or `layout`.")

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class DataSection(Section):
    """Where samples come from. Which other keys are allowed depends on the provider; see docs/data.md."""

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str = Field(description="Name of a sample provider: `npz`, `idx`, `image_folder`, `digits`, `python`.")
    count: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Use this many samples, drawn without replacement by `seed`. Default: all."
    )
    seed: int = Field(default=0, description="Seed of that draw.")
    sha256: str | None = Field(
        default=None,
        description="Expected checksum of the provider's files, as `edgepack plan` prints it; a build with other data stops.",
    )
    preprocess: tuple[PreprocessStep, ...] | None = Field(
        default=None,
        description="Of `data.train` only: the steps that samples to train on go through, in place of [[preprocess]], such as whole images for `augment` to crop. "
        "Calibration and evaluation see what the app will see.",
    )

    def options(self) -> dict[str, Any]:
        """The provider's own keys."""
        return dict(self.model_extra or {})


class DataSections(Section):
    """The three roles of data. Each is a table, or the name of a file in `calibration/`."""

    train: DataSection | str | None = Field(
        default=None,
        description="Samples for training steps (pruning, QAT). Labels are not needed: the float model teaches.",
    )
    calibration: DataSection | str | None = Field(
        default=None, description="Samples from which ranges are measured. Default: the first 300 of `train`."
    )
    evaluation: DataSection | str = Field(
        description="Labelled samples that judge the result. Never used for training."
    )
