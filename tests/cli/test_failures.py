"""Every way to fail: one message, the documented exit code, and a traceback only when asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from edgepack.cli.failures import exit_code_of
from edgepack.cli.invocation import Invocation
from edgepack.core import errors
from edgepack.core.errors import EdgepackError, RecipeError

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgepackError)]


def failing(exc: BaseException, **invocation: Any) -> int:
    def call() -> None:
        raise exc

    return exit_code_of(call, Invocation(**{"debug": False, **invocation}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_ours_is_its_message_and_its_exit_code(
    kind: type[EdgepackError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(kind("a.toml: wrong; do this")) == kind.exit_code
    assert capsys.readouterr() == ("", "edgepack: error: a.toml: wrong; do this\n")


def test_the_page_lists_exactly_the_exit_codes_of_the_errors() -> None:
    listed = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)}

    assert listed == {kind.__name__: kind.exit_code for kind in KINDS}
    assert f"| {errors.INTERRUPTED_EXIT_CODE} | |" in PAGE


def test_what_nobody_expected_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(ZeroDivisionError("division by zero\nmore")) == 1

    expected = "internal error: ZeroDivisionError: division by zero; run again with --debug and report it"
    assert capsys.readouterr().err == f"edgepack: error: {expected}\n"


@pytest.mark.parametrize("exc", [RecipeError("wrong"), ZeroDivisionError("zero")])
def test_debug_shows_the_traceback(exc: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    failing(exc, debug=True)

    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert "edgepack: error: " in shown


@pytest.mark.parametrize("variable", ["1", "0"])
def test_debug_can_be_an_environment_variable(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_DEBUG", variable)

    assert Invocation().debug is (variable == "1")


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_says_that_stages_are_kept_where_they_are(
    exc: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(exc, keeps_stages=True) == 130
    assert failing(exc) == 130
    kept, plain = capsys.readouterr().err.splitlines()
    assert kept == "edgepack: interrupted; finished stages are kept: run the same command again to go on"
    assert plain == "edgepack: interrupted"


def test_a_supervised_child_leaves_that_to_its_parent(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(KeyboardInterrupt(), is_child=True) == 130
    assert capsys.readouterr().err == ""


def test_running_out_of_memory_is_the_machines_matter() -> None:
    assert failing(MemoryError()) == 9


def test_a_reader_that_goes_away_is_no_traceback(bundle_path: Path) -> None:
    program = "from edgepack.cli import main; main()"
    command = f"{sys.executable} -c '{program}' inspect --json {bundle_path} | true"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)

    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
