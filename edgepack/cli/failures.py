"""Every way a command ends badly: one message on stderr, and the exit code that docs/cli.md lists."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from edgepack.cli.invocation import Invocation
from edgepack.core.errors import INTERRUPTED_EXIT_CODE, EdgepackError, EnvironmentProblem

INTERNAL_ERROR_EXIT_CODE = 1
_KEPT = "interrupted; finished stages are kept: run the same command again to go on"


def exit_code_of(call: Callable[[], Any], invocation: Invocation) -> int:
    """Run a command to its end. 0 when it ended well; else the message is printed and its exit code comes back."""
    try:
        code = call()
    except click.UsageError as exc:
        return _usage(exc)
    except click.ClickException as exc:
        return _told(exc.format_message(), exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        if not invocation.is_child:  # else the parent says it, also when this process can't
            tell_interrupted(keeps_stages=invocation.keeps_stages)
        return INTERRUPTED_EXIT_CODE
    except EdgepackError as exc:
        return _failed(str(exc), exc.exit_code, invocation)
    except MemoryError:
        return _failed("not enough memory; close other programs", EnvironmentProblem.exit_code, invocation)
    except Exception as exc:  # noqa: BLE001  # the last border: what nobody expected becomes a message, not a traceback
        hint = "" if invocation.debug else "; run again with --debug and report it"
        return _failed(f"internal error: {_named(exc)}{hint}", INTERNAL_ERROR_EXIT_CODE, invocation)
    return code if isinstance(code, int) else 0


def tell(message: str) -> None:
    """'edgepack: error: …' on stderr, the word red on a terminal."""
    click.echo(f"edgepack: {_red('error')}: {message}", err=True)


def tell_interrupted(*, keeps_stages: bool) -> None:
    """That the user ended the command, and what remains of it."""
    click.echo(f"edgepack: {_KEPT if keeps_stages else 'interrupted'}", err=True)


def _usage(exc: click.UsageError) -> int:
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        exc.show()
        return exc.exit_code
    tell(exc.format_message())
    if exc.ctx is not None:
        click.echo(f"Try '{exc.ctx.command_path} --help'.", err=True)
    return exc.exit_code


def _failed(message: str, code: int, invocation: Invocation) -> int:
    if invocation.debug:
        import traceback

        click.echo(traceback.format_exc(), err=True, nl=False)
    return _told(message, code)


def _told(message: str, code: int) -> int:
    tell(message)
    return code


def _named(exc: Exception) -> str:
    first, *_ = str(exc).splitlines() or [""]
    return f"{type(exc).__name__}: {first}" if first else type(exc).__name__


def _red(word: str) -> str:
    plain = "NO_COLOR" in os.environ or not sys.stderr.isatty()
    return word if plain else click.style(word, fg="red", bold=True)
