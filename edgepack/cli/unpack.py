"""`edgepack unpack`: a bundle's files in a folder, or what a wire file holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from edgepack.cli.options import FILE, FOLDER, require_signed_option, trust_option, variant_option
from edgepack.core.errors import UsageError

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.codec.wire_files import Content


@click.command()
@click.argument("bundle", type=FILE)
@click.argument("folder", type=FOLDER, required=False)
@click.option("--bundle", "as_bundle", is_flag=True, help="Of a wire form: write the bundle file, not a folder.")
@click.option("-o", "--output", type=FILE, help="The same, into this file; an existing one is replaced.")
@variant_option
@require_signed_option
@trust_option
def unpack(
    *,
    bundle: Path,
    folder: Path | None,
    as_bundle: bool,
    output: Path | None,
    variant: str | None,
    require_signed: bool,
    trust_file: Path | None,
) -> None:
    """Write a bundle's files into a folder.

    FOLDER must be new or empty; by default it is called like BUNDLE, without its ending, in the current folder. Each file is checked
    against the manifest, and the folder appears whole or not at all. With --variant the files of other targets are left out. A bundle that
    the trust file refuses is not unpacked (exit code 13).

    BUNDLE may be a wire form (.edgepackz): then the result is the folder, too, or the bundle file itself with --bundle or -o. The wire form
    of a single model file becomes that file. The SHA-256 of the result is checked before anything is written.

    \b
    Examples:
      edgepack unpack dist/digits-1.0.0-arm64.edgepack
      edgepack unpack model.edgepack app/assets/model --require-signed
      edgepack unpack digits-1.0.0-arm64.edgepackz --bundle
      edgepack unpack model.tflite.edgepackz -o model.tflite
    """
    from edgepack.cli.wire_input import begins_as_wire

    to_file = as_bundle or output is not None
    if to_file and (folder is not None or variant is not None):
        raise UsageError("FOLDER and --variant are for a folder, --bundle and -o are for a file; use one of them")
    extraction = _Extraction(bundle, folder, variant, require_signed, trust_file)
    if begins_as_wire(bundle):
        _from_wire(extraction, to_file=to_file, output=output)
    elif to_file:
        raise UsageError(f"{bundle}: is no wire form, so there is no file to restore; name a .edgepackz file")
    else:
        extraction.into_folder(bundle)


@dataclass(frozen=True, slots=True)
class _Extraction:
    """What the user asked for; `named` is the file that was named, from which a folder has its name."""

    named: Path
    folder: Path | None
    variant: str | None
    require_signed: bool
    trust_file: Path | None

    def into_folder(self, path: Path) -> None:
        """Write the files of the bundle in `path`."""
        from edgepack.cli.terminal import shown

        is_bundle = self.named.suffix in (".edgepack", ".edgepackz")
        default = self.named.stem if is_bundle else f"{self.named.name}.unpacked"
        click.echo(shown(self.trusted(path).extract(self.folder or Path(default), target=self.variant)))

    def trusted(self, path: Path) -> Bundle:
        """The bundle, if the trust file has nothing against it."""
        from edgepack.bundle import read_bundle
        from edgepack.signing import check_trust, load_trust

        opened = read_bundle(path)
        trust = load_trust(self.trust_file, require_signed=self.require_signed)
        for line in check_trust(opened, trust=trust).warnings:
            click.secho(f"! {line}", fg="yellow", err=True)
        return opened


def _from_wire(extraction: _Extraction, *, to_file: bool, output: Path | None) -> None:
    from edgepack.codec.wire_files import unpacked

    content = unpacked(extraction.named)
    if not content.is_archive:
        if extraction.folder is not None:
            raise UsageError(f"{extraction.named}: holds a single file, not a bundle; name that file with -o")
        _restore(content, output)
        return
    with TemporaryDirectory(prefix="edgepack-") as scratch:
        plain = Path(scratch) / content.name
        plain.write_bytes(content.data)
        if not to_file:
            extraction.into_folder(plain)
            return
        extraction.trusted(plain)
    _restore(content, output)


def _restore(content: Content, output: Path | None) -> None:
    from edgepack.cli.pack import new_file
    from edgepack.cli.terminal import shown
    from edgepack.core.files import write_atomic

    path = output or new_file(Path(content.name))
    write_atomic(path, content.data)
    click.echo(shown(path))
