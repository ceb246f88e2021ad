"""How to train: the options that pruning and quantization share. (No torch here: a plan reads it.)"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgepack.core.section import Section
from edgepack.recipe import NetworkSection

Augmentation = Literal["hflip", "shift", "crop", "color", "time_shift", "mixup"]


class Training(Section):
    """Fine-tuning. Give `epochs` or `steps`."""

    epochs: int | None = Field(default=None, ge=1, description="Passes over the training samples.")
    steps: int | None = Field(default=None, ge=1, description="Optimizer steps, instead of `epochs`.")
    batch_size: int = Field(default=32, ge=1, description="Samples of a step.")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="`adam`, `adamw` or `sgd` (momentum 0.9)."
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate after warm-up.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="`cosine` falls to 0 at the end, `constant` stays."
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps over which the learning rate rises linearly.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of the optimizer.")
    loss: Literal["distill", "mse", "labels"] = Field(
        default="distill",
        description="`distill` learns from a teacher, the float model, and needs no labels: Kullback-Leibler divergence of class scores (Hinton et al. 2015, "
        "arXiv:1503.02531), mean squared error for outputs of other shapes; `mse` is the latter for every output; `labels` is cross-entropy.",
    )
    temperature: float = Field(default=1.0, gt=0, description="Softmax temperature of `distill`.")
    labels_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Beside `distill`, the share of the labels' cross-entropy in the loss; the teacher has the rest. Needs labels in `data.train`.",
    )
    features: tuple[str | dict[str, str], ...] = Field(
        default=(),
        description='Modules whose outputs shall be alike, too, by name: `["layer1", "layer2"]`, or, where the teacher\'s has another, `{ "block3" = "layer2.1" }`; '
        "`features_by` says in what.",
    )
    features_by: Literal["likeness", "values"] = Field(
        default="likeness",
        description="What is compared of `features`. `likeness`: which samples resemble each other (Tung and Mori 2019, arXiv:1907.09682), so channels and sizes may "
        "differ. `values`: every value, by the mean squared error over the teacher's variance (the hints of Romero et al. 2015, arXiv:1412.6550), for outputs of the "
        "same shape: the stronger one, where few samples must do.",
    )
    features_weight: float = Field(
        default=1.0, gt=0, description="Weight of the `features`' loss, the mean over them, beside that of the outputs."
    )
    teacher: NetworkSection | None = Field(
        default=None, description="Who teaches. Default: the float model that the build began with."
    )
    augment: tuple[Augmentation, ...] = Field(
        default=(),
        description="Random changes of NCHW images: `hflip`, `shift` (by `shift_pixels`), `crop` (a part of the image, at least `crop_min` of its area, enlarged to its "
        "size; Szegedy et al. 2015, arXiv:1409.4842), `color` (brightness, contrast and saturation, each by up to 40 %; Howard 2013, arXiv:1312.5402); of inputs of shape (time, …), such as MFCCs: `time_shift`, along the time; of "
        "any: `mixup`, each sample mixed with another one in a random proportion (Zhang et al. 2018, arXiv:1710.09412), which the teacher sees, too.",
    )
    shift_pixels: int | None = Field(
        default=None,
        ge=1,
        description="How far `shift` and `time_shift` move at most. Default: a 14th of the width, or of the time, at least 1.",
    )
    crop_min: float = Field(
        default=0.35,
        gt=0,
        lt=1,
        description="Smallest share of an image's area that `crop` leaves; its sides' ratio changes by up to 4/3.",
    )
    norms: Literal["learn", "keep"] | None = Field(
        default=None,
        description="Batch norms `learn`: they work with each batch's own statistics and follow them. Or they `keep` those that they have, which saves what a large "
        "data set taught them where the samples are few. Default: `learn` in `prune_channels`, `low_rank` and `distill`, `keep` elsewhere.",
    )
    holdout: float = Field(
        default=0.1,
        ge=0,
        lt=0.9,
        description="Share of the training samples kept out to choose the best checkpoint; 0 keeps the last.",
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many epochs without a better held-out loss. Default: never."
    )

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either 'epochs' or 'steps'")
        if self.shift_pixels is not None and not {"shift", "time_shift"} & set(self.augment):
            raise ValueError("'shift_pixels' needs \"shift\" or \"time_shift\" in 'augment'")
        if self.crop_min != 0.35 and "crop" not in self.augment:
            raise ValueError("'crop_min' needs \"crop\" in 'augment'")
        if self.needs_labels and "mixup" in self.augment:
            raise ValueError(
                'augment: "mixup" has no label of its own; take loss = "distill" or "mse" without \'labels_weight\', or leave it out'
            )
        if self.patience is not None and self.holdout == 0:
            raise ValueError("'patience' needs a 'holdout' above 0")
        return self

    @model_validator(mode="after")
    def _teacher_is_asked(self) -> Training:
        if self.labels_weight and self.loss != "distill":
            raise ValueError(
                f'\'labels_weight\' mixes labels into loss = "distill", not into "{self.loss}"; leave one of them out'
            )
        for name, default in (("features_weight", 1.0), ("features_by", "likeness")):
            if getattr(self, name) != default and not self.features:
                raise ValueError(f"'{name}' needs 'features'")
        if self.teacher is not None and self.loss == "labels" and not self.features:
            raise ValueError(
                "nobody asks the 'teacher' with loss = \"labels\" and no 'features'; leave one of them out"
            )
        return self

    @property
    def needs_labels(self) -> bool:
        """Whether the training samples must have labels."""
        return self.loss == "labels" or self.labels_weight > 0

    @property
    def feature_pairs(self) -> tuple[tuple[str, str], ...]:
        """The modules of `features`: (in the network that learns, in the teacher)."""
        pairs = [[(one, one)] if isinstance(one, str) else list(one.items()) for one in self.features]
        return tuple(pair for some in pairs for pair in some)
