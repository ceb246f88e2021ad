"""`edgepack pack`, `delta` and `apply`: bundles and model files as small as they go over the wire, and updates of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.options import FILE, json_option
from edgepack.core.errors import UsageError

if TYPE_CHECKING:
    from edgepack.codec.wire_files import Written

_ROWS_MAX = 12
_out_option = click.option("-o", "--output", type=FILE, help="Where to write. An existing file is replaced.")
_profile_option = click.option(
    "--profile",
    type=click.Choice(["fast", "small"]),
    default="small",
    show_default=True,
    help="small: as small as can be; fast: unpacks at 20 MB/s and more on one core.",
)


@click.command()
@click.argument("file", type=FILE)
@_out_option
@_profile_option
@json_option
def pack(*, file: Path, output: Path | None, profile: str, as_json: bool) -> None:
    """Make a bundle or a model file small for the wire.

    FILE is a bundle (the result is called NAME.edgepackz) or one model file: .tflite, .onnx, .bin with its .xml beside it, .safetensors,
    .npy, or anything else (FILE.edgepackz). 'edgepack unpack' gives the same file back, bit by bit; that is tried before the result is
    written. Standard output has what became of each part.

    \b
    Examples:
      edgepack pack dist/digits-1.0.0-arm64.edgepack
      edgepack pack model.tflite -o model.wire --profile fast
    """
    from edgepack.codec.wire_files import write_packed

    with _shown(f"Packing {file.name}", quiet=as_json) as progress:
        written = write_packed(file, output, profile=profile, progress=progress)  # type: ignore[arg-type]  # click's choice
    _tell(written, as_json=as_json, profile=profile)


@click.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@_out_option
@_profile_option
@json_option
def delta(*, old: Path, new: Path, output: Path | None, profile: str, as_json: bool) -> None:
    """Write what makes a new bundle or model file of an old one.

    For those who have OLD. OLD and NEW are bundles, their wire forms, or single model files. The result is called like NEW, with .edgepackd. It is smallest where
    NEW was trained with 'update_of', so that it kept OLD's scales.

    \b
    Examples:
      edgepack delta digits-1.0.0-arm64.edgepack digits-1.1.0-arm64.edgepack
      edgepack delta old.tflite new.tflite -o update.edgepackd
    """
    from edgepack.codec.wire_files import write_delta

    with _shown(f"Comparing {new.name} with {old.name}", quiet=as_json) as progress:
        written = write_delta(old, new, output, profile=profile, progress=progress)  # type: ignore[arg-type]  # click's choice
    _tell(written, as_json=as_json, profile=profile)


@click.command()
@click.argument("old", type=FILE)
@click.argument("delta", type=FILE)
@_out_option
@json_option
def apply(*, old: Path, delta: Path, output: Path | None, as_json: bool) -> None:
    """Make the new bundle or model file of an old one and a delta.

    The result is called like DELTA, with the ending of a bundle or a model file, in the current folder. The SHA-256 of OLD, which may be a
    wire form, and of the result are checked before anything is written; the file appears whole or not at all. Exit code 10: OLD is not
    the file that DELTA was made for, or one of them is damaged.

    \b
    Examples:
      edgepack apply digits-1.0.0-arm64.edgepack digits-1.1.0-arm64.edgepackd
      edgepack apply model.tflite update.edgepackd -o model.tflite
    """
    from edgepack.cli.terminal import echo_json, shown
    from edgepack.codec.wire_files import applied
    from edgepack.core.digest import sha256_bytes
    from edgepack.core.files import write_atomic

    content = applied(old, delta)
    path = output or new_file(Path(content.name))
    write_atomic(path, content.data)
    if as_json:
        echo_json({"file": str(path), "size_bytes": len(content.data), "sha256": sha256_bytes(content.data)})
    else:
        click.echo(shown(path))


def new_file(path: Path) -> Path:
    """The path, where nothing is yet. Raises UsageError where something is."""
    if path.exists():
        raise UsageError(f"{path}: exists already; name another file with -o (which may be this one, to replace it)")
    return path


def _tell(written: Written, *, as_json: bool, profile: str) -> None:
    from edgepack.cli.terminal import draw, echo_json, shown
    from edgepack.cli.words import size

    if as_json:
        echo_json(_content(written, profile))
        return
    draw(_table(written))
    before, after = size(written.input_bytes), size(len(written.packed.wire))
    click.echo(f"{shown(written.path)}: {after}, {written.ratio:.2f} times smaller than {before}")


def _content(written: Written, profile: str) -> dict[str, Any]:
    return {
        "file": str(written.path),
        "profile": profile,
        "input_bytes": written.input_bytes,
        "wire_bytes": len(written.packed.wire),
        "ratio": written.ratio,
        "parts": [
            {
                "part": part.what,
                "bytes_before": part.before,
                "bytes_after": part.after,
                "bits_per_value": part.bits_per_value,
                "coder": part.coder_name or None,
            }
            for part in written.packed.parts
        ],
    }


def _table(written: Written) -> Any:
    from rich.markup import escape

    from edgepack.cli.tables import plain_table

    parts = written.packed.parts
    rows = [
        (
            escape(_shortened(part.what)),
            f"{part.before:,}",
            f"{part.after:,}",
            "" if part.bits_per_value is None else f"{part.bits_per_value:.2f}",
            part.coder_name,
        )
        for part in (*parts[:_ROWS_MAX], *(part for part in parts[_ROWS_MAX:] if part.coder is None))
    ]
    others = [part for part in parts[_ROWS_MAX:] if part.coder is not None]
    if others:
        before, after = sum(part.before for part in others), sum(part.after for part in others)
        rows.insert(_ROWS_MAX, (f"{len(others)} smaller tensors", f"{before:,}", f"{after:,}", "", ""))
    columns = {"part": "left", "bytes": "right", "on the wire": "right", "bits per value": "right", "coder": "left"}
    return plain_table("", columns, rows)


def _shortened(what: str, *, length: int = 72) -> str:
    return what if len(what) <= length else f"…{what[1 - length :]}"


@contextmanager
def _shown(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """What draws the coding's progress, in bytes."""
    from edgepack.cli.progress import shown_progress

    with shown_progress(quiet=quiet) as progress:
        told = 0

        def advance(done: int, total: int) -> None:
            nonlocal told
            if told == 0:
                progress.start(what, total=total)
            progress.advance(done - told)
            told = done

        yield advance
        if told:
            progress.done()
