"""`edgepack init`: a recipe to start from, with every option explained in it."""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.cli.options import FOLDER


class _Shape(click.ParamType[tuple[int, ...]]):
    """'3,224,224' or '3x224x224'."""

    name = "shape"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The sizes."""
        if isinstance(value, tuple):
            return value
        parts = str(value).strip("[]() ").replace("x", ",").split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(
                f"'{value}' is no shape; write the sizes of one sample without the batch, e.g. 3,224,224", param, ctx
            )
        return tuple(int(part) for part in parts)


@click.command()
@click.argument("folder", type=FOLDER, default=Path(), metavar="[FOLDER]")
@click.option(
    "--factory", metavar="MODULE:FUNCTION", help="What returns the float torch.nn.Module.  [default: one that is found]"
)
@click.option("--weights", metavar="FILE", help="State dict, relative to FOLDER.  [default: one that is found]")
@click.option(
    "--file",
    "model_file",
    metavar="FILE",
    help="Model file instead of a factory: .onnx, .pt2, .keras, …  [default: one that is found where no factory is]",
)
@click.option(
    "--input-shape", type=_Shape(), metavar="SIZES", help="Shape of one sample without the batch, e.g. 3,224,224."
)
@click.option("--force", is_flag=True, help="Write over an edgepack.toml that is there.")
def init(
    *,
    folder: Path,
    factory: str | None,
    weights: str | None,
    model_file: str | None,
    input_shape: tuple[int, ...] | None,
    force: bool,
) -> None:
    """Write a commented edgepack.toml to start from.

    Every option is in it with its explanation and its default. A model's factory and its weights, or a model file, are suggested where FOLDER
    has an obvious one; nothing is imported or run for that. What only you can know is marked FILL IN.

    \b
    Examples:
      edgepack init
      edgepack init my-model --factory model:build --weights model.safetensors --input-shape 1,28,28
      edgepack init --file model.onnx
    """
    from edgepack.cli.found import find_factories, find_model_files, find_weights
    from edgepack.cli.starter import MARK, starter
    from edgepack.cli.terminal import shown
    from edgepack.core.errors import UsageError
    from edgepack.core.files import write_atomic
    from edgepack.core.section import validate
    from edgepack.recipe import FILE_NAME, ModelSection

    path = folder / FILE_NAME
    if path.exists() and not force:
        raise UsageError(f"{shown(path)}: exists already; --force writes over it")
    if model_file and (factory or weights):
        raise UsageError("--file: a model file has its own graph and weights; leave out --factory and --weights")
    factories = [factory] if factory else [] if model_file else find_factories(folder)
    states = [weights] if weights else [] if model_file else find_weights(folder)
    files = [model_file] if model_file else [] if factories else find_model_files(folder)
    probe = {"factory": (factories or ["model:build"])[0], "inputs": [{"shape": input_shape or (1,)}]}
    validate(ModelSection, probe, where="--factory")
    text = starter(
        name=folder.resolve().name, factories=factories, weights=states, input_shape=input_shape, files=files
    )
    write_atomic(path, text.encode())
    told = (
        [("model file", model_file, files)]
        if files
        else [("factory", factory, factories), ("weights", weights, states)]
    )
    for what, given, found in told:
        if found and not given:
            others = f" (also seen: {', '.join(found[1:])})" if found[1:] else ""
            click.echo(f"found {what}: {found[0]}{others}")
    click.echo(f"{shown(path)}: fill in {text.count(MARK)} marked places, then run: edgepack plan")
