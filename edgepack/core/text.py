"""Text from a file that anyone may have written, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with every control character but a newline replaced, so that it can't move a terminal's cursor or hide what follows.

    >>> printable("a\\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
