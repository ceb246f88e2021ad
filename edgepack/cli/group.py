"""The group of commands: a table of names, each imported when it is called, and one way to fail."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from edgepack.cli.failures import exit_code_of
from edgepack.cli.invocation import DEBUG_VARIABLE, Invocation
from edgepack.core.errors import INTERRUPTED_EXIT_CODE, did_you_mean


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, 'module:attribute', and what it does in one line."""

    location: str
    help: str


class CommandGroup(click.Group):
    """Commands in sections. Its help and its completion come from the table and import none of them."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}
        _take_debug(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself; imports its file."""
        if cmd_name not in self.entries:
            return None
        module, _, attribute = self.entries[cmd_name].location.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        _take_debug(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises UsageError with the nearest name."""
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            raise click.UsageError(f"unknown command '{args[0]}'{did_you_mean(args[0], self.entries)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, section by section."""
        width = max(map(len, self.entries))
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in section.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands that begin so, else options."""
        found = [
            CompletionItem(name, help=entry.help) for name, entry in self.entries.items() if name.startswith(incomplete)
        ]
        return found or super().shell_complete(ctx, incomplete)

    def main(  # type: ignore[override]  # click's overloads differ in standalone_mode, and so does what we return
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command. In standalone mode every failure ends in one message and its exit code."""
        invocation: Invocation = extra.setdefault("obj", None) or Invocation()
        extra["obj"] = invocation
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        _print_any_character()

        def call() -> Any:
            return super(CommandGroup, self).main(args, prog_name, standalone_mode=False, **extra)

        return _leave(exit_code_of(call, invocation), invocation)


def _leave(code: int, invocation: Invocation) -> NoReturn:
    # A closed pipe ('edgepack inspect … | head') is no failure, and Python's own flush at exit would complain.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if invocation.is_child and code == INTERRUPTED_EXIT_CODE:
        # Everything opened is closed; taking torch apart would need another 1.5 s, in which the parent would kill us.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _print_any_character() -> None:
    """Where the terminal's encoding lacks '✓', print '?', not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _take_debug(command: click.Command) -> None:
    """Give a command, and each command in it, the option --debug, so that it can stand anywhere."""
    if not any(parameter.name == "debug" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_set_debug,
                help=f"Show the traceback of a failure. Same as {DEBUG_VARIABLE}=1.",
            )
        )
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _take_debug(inner)


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, Invocation):
        ctx.obj.debug = True
