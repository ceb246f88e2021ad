"""Passwords of keys: by the environment or by a prompt, never on the command line, where other users of the machine could read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from edgepack.core.errors import UsageError


def password_of(path: Path) -> Callable[[], bytes]:
    """Asks for the password of an existing key when it is called. Raises UsageError where nobody can be asked."""

    def ask() -> bytes:
        return _from_environment() or _prompted(f"Password of {path.name}", twice=False, where=str(path))

    return ask


def new_password(name: str) -> bytes:
    """The password for a new key. Raises UsageError for an empty one, or where nobody can be asked."""
    return _from_environment() or _prompted(f"Password for {name}", twice=True, where=name)


def _from_environment() -> bytes:
    from edgepack.signing.key_files import PASSWORD_VARIABLE

    return os.environ.get(PASSWORD_VARIABLE, "").encode()


def _prompted(text: str, *, twice: bool, where: str) -> bytes:
    from edgepack.signing.key_files import PASSWORD_VARIABLE

    if not sys.stdin.isatty():
        raise UsageError(f"{where}: this key has a password, and there is no terminal to ask; set ${PASSWORD_VARIABLE}")
    password: str = click.prompt(text, hide_input=True, confirmation_prompt=twice, err=True)
    return password.encode()
