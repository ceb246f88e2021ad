"""Distillation: another network, a student, learns what the model does and takes its place (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationError, model_validator

from edgepack.core.section import Section
from edgepack.methods.fine_tune import fine_tune
from edgepack.methods.protocol import Context, Phase
from edgepack.network.training import Training
from edgepack.recipe import NetworkSection

if TYPE_CHECKING:
    from edgepack.network.model import Model


class Distill(Section):
    """A network of your own takes the model's place, and learns from it."""

    phase: ClassVar[Phase] = Phase.STUDENT
    factory: str = Field(
        description="`module:function` that returns the student, a `torch.nn.Module` with the model's inputs and outputs. Looked up beside the recipe first."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")
    weights: str | None = Field(
        default=None,
        description="State dict that the student starts from, as `model.weights`. Default: what the factory gives, fresh values by the recipe's `seed`.",
    )
    weights_key: str | None = Field(
        default=None, description="Key under which the state dict lies in a checkpoint dictionary, e.g. `state_dict`."
    )
    train: Training = Field(
        default=Training(epochs=30, learning_rate=1e-3),
        description="The student's training; `train.teacher` is who teaches.",
    )

    @model_validator(mode="after")
    def _is_a_network(self) -> Distill:
        try:
            _ = self.student
        except ValidationError as exc:
            first = exc.errors()[0]
            raise ValueError(f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from exc
        return self

    @property
    def student(self) -> NetworkSection:
        """The network that takes the model's place."""
        return NetworkSection(factory=self.factory, args=self.args, weights=self.weights, weights_key=self.weights_key)

    @property
    def needs_training_samples(self) -> bool:
        """Always: the student must learn."""
        return True

    def apply(self, model: Model, context: Context) -> Model:
        """The trained student."""
        assert context.network is not None
        student = context.network(self.student)
        before, after = _costs(model), _costs(student)
        share = after["parameters"] / max(1, before["parameters"])
        what = f"Training a student with {share:.0%} of the parameters"
        trained = fine_tune(student, self.train, context, what=what, learns_norms=True)
        teacher = self.train.teacher
        return replace(student, outputs=model.outputs).with_step(
            method="distill",
            student=self.student.model_dump(mode="json"),
            teacher=None if teacher is None else teacher.model_dump(mode="json"),
            before=before,
            after=after,
            steps=trained.steps,
            best_step=trained.best_step,
        )


def _costs(model: Model) -> dict[str, int]:
    """Multiply-accumulates of one inference, and parameters."""
    from edgepack.network.channels.work import macs_of, uses_of

    state = model.network.state_dict()
    return {
        "macs": macs_of(state, uses_of(model.network, model.example())),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
    }
