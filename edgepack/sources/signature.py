"""What every source that reads a file shares: finding the file, and its inputs under the names and sizes that the recipe gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgepack.core.errors import RecipeError, SourceError, did_you_mean
from edgepack.core.paths import expand
from edgepack.recipe import InputSection, ModelSection

_IMAGE_CHANNELS = (1, 3, 4)
_DTYPES = ("float32", "int32", "int64")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """An input as a model file declares it: batch first. A size that the file leaves open is a text that names it."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


def model_path(section: ModelSection, folder: Path) -> Path:
    """The model file or folder of a recipe. Raises SourceError for one that is missing or empty."""
    if section.file is None:
        raise RecipeError(f"model.kind = '{section.kind}' reads a file; give model.file instead of model.factory")
    path = expand(section.file, folder=folder, error=SourceError).resolve()
    if not path.exists():
        beside = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        near = did_you_mean(path.name, beside)
        raise SourceError(
            f"model.file: no file {path}{near if 'did you mean' in near else ''}; export the model first, or correct the path"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"model.file: {path} is empty; copy it again")
    return path


def named_inputs(
    found: Sequence[FileInput], given: Sequence[InputSection], *, where: str, batch_required: bool = True
) -> tuple[InputSection, ...]:
    """The inputs of a file, as the rest of the build uses them: one sample without the batch dimension.

    The recipe's inputs are meant by name where all names are the file's, else by position; they name inputs anew, say the layout, and the
    sizes that the file leaves open. Raises SourceError, with `where` in front, for what doesn't fit together or stays open.
    `batch_required` says that the first dimension must be 1 or open.
    """
    if given and len(given) != len(found):
        raise SourceError(
            f"{where}: has {len(found)} inputs ({', '.join(map(_shown, found))}) and the recipe {len(given)}; give all in [[model.inputs]], or none"
        )
    names = [one.name for one in found]
    by_name = {one.name: one for one in given} if {one.name for one in given} == set(names) else {}
    ordered = [by_name.get(name) or (given[index] if given else None) for index, name in enumerate(names)]
    return tuple(
        _named(one, said, where, batch_required=batch_required) for one, said in zip(found, ordered, strict=True)
    )


def _named(found: FileInput, given: InputSection | None, where: str, *, batch_required: bool) -> InputSection:
    place = f"{where}: input '{found.name}'"
    if found.dtype not in _DTYPES:
        raise SourceError(
            f"{place} is {found.dtype}; edgepack takes {', '.join(_DTYPES)}: export the model with one of these"
        )
    if len(found.shape) < 2:
        raise SourceError(
            f"{place} has shape {_sizes(found.shape)}; a batch dimension and at least one more are needed: export it with inputs like (1, n)"
        )
    if batch_required and isinstance(found.shape[0], int) and found.shape[0] != 1:
        raise SourceError(
            f"{place} is made for exactly {found.shape[0]} samples at once; export the model for 1, or for any number (a dynamic first dimension)"
        )
    if given is not None:
        return _checked(found, given, place)
    sizes = found.shape[1:]
    open_sizes = [size for size in sizes if not isinstance(size, int)]
    if open_sizes:
        raise SourceError(
            f"{place} has shape {_sizes(found.shape)}: nothing says how large '{open_sizes[0]}' is, and a device needs fixed sizes; "
            f"add [[model.inputs]] with name and shape"
        )
    shape = tuple(int(size) for size in sizes)
    return InputSection(
        name=found.name, shape=shape, dtype=cast(Literal["float32"], found.dtype), layout=_layout(shape, found.dtype)
    )


def _checked(found: FileInput, given: InputSection, place: str) -> InputSection:
    sizes = found.shape[1:]
    fits = len(sizes) == len(given.shape) and all(
        not isinstance(size, int) or size == said for size, said in zip(sizes, given.shape, strict=False)
    )
    if not fits:
        raise SourceError(
            f"{place} has shape {_sizes(found.shape)} with the batch first, and model.inputs says {list(given.shape)} without it; correct model.inputs.shape"
        )
    if "dtype" in given.model_fields_set and given.dtype != found.dtype:
        raise SourceError(f"{place} is {found.dtype}, and model.inputs says {given.dtype}; leave dtype out")
    update: dict[str, str] = {"dtype": found.dtype}
    if "layout" not in given.model_fields_set:
        update["layout"] = _layout(given.shape, found.dtype)
    return given.model_copy(update=update)


def _layout(shape: tuple[int, ...], dtype: str) -> Literal["CHW", "HWC", "any"]:
    """Three float dimensions of which only the first, or only the last, can be an image's channels."""
    if len(shape) != 3 or dtype != "float32":
        return "any"
    first, last = shape[0] in _IMAGE_CHANNELS, shape[2] in _IMAGE_CHANNELS
    return "any" if first == last else "CHW" if first else "HWC"


def _shown(found: FileInput) -> str:
    return f"{found.name} {_sizes(found.shape)}"


def _sizes(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
