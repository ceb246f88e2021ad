"""What a library says when it fails: its first words, and never too many."""

from __future__ import annotations

from edgepack.core.said import every_line, first_line


def test_the_first_line_is_the_first_that_says_anything() -> None:
    assert first_line(ValueError("\n  \n  no such node  \nat line 3")) == "no such node"


def test_every_line_leaves_blank_ones_out() -> None:
    assert every_line(ValueError("no such node\n\n  at line 3\n")) == "no such node\n  at line 3"


def test_a_failure_without_words_is_told_by_its_name() -> None:
    assert first_line(EOFError(" \n")) == every_line(EOFError()) == "EOFError"


def test_long_words_are_cut() -> None:
    assert len(first_line(ValueError("x" * 5000))) == 300
    assert len(every_line(ValueError("x" * 5000))) == 1500
