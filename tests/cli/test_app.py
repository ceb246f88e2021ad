"""The table of commands: quick to list, complete, and each command explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result

from edgepack import __version__
from edgepack.cli import SECTIONS, app
from edgepack.targets import target_names

Run = Callable[..., Result]
ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
HEAVY = {"pydantic", "numpy", "torch", "rich", "scipy", "PIL", "nncf"}
TAKES_NO_JSON = {"init", "unpack", "schema", "completion", "cache", "appkit", "join", "pull", "export"}
# `results export` has --format json; what changes the trust file answers with a line.
LEAVES_WITHOUT = {"export", "add", "remove", "revoke", "policy"}


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


def leaves(name: str) -> Iterator[click.Command]:
    found = command(name)
    yield from found.commands.values() if isinstance(found, click.Group) else [found]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["build", "--help"], []])
def test_help_answers_without_loading_a_library(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom edgepack.cli import main\n"
        f"sys.argv = ['edgepack', *{arguments!r}]\n"
        "try:\n    main()\nfinally:\n    print('MODULES', *sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    loaded = {name.partition(".")[0] for name in done.stdout.partition("MODULES")[2].split()}
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_lists_every_command_with_its_line(run: Run) -> None:
    text = run("--help").stdout

    for name, entry in ENTRIES.items():
        assert re.search(rf"^  {name} +{re.escape(entry.help)}$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_command_begins_its_help_with_the_line_of_the_table(name: str) -> None:
    assert (command(name).help or "").splitlines()[0] == ENTRIES[name].help


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_shows_an_example_and_takes_debug(name: str) -> None:
    for leaf in leaves(name):
        assert "Example" in (leaf.help or "")
        assert "edgepack " in (leaf.help or "")
        assert any(parameter.name == "debug" for parameter in leaf.params)


@pytest.mark.parametrize("name", [*sorted(set(ENTRIES) - TAKES_NO_JSON), "cache"])
def test_commands_that_draw_tables_take_json(name: str) -> None:
    for leaf in leaves(name):
        is_there = any("--json" in parameter.opts for parameter in leaf.params)
        assert is_there or leaf.name in LEAVES_WITHOUT


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_is_on_the_page(name: str) -> None:
    assert f"`edgepack {name}" in PAGE
    assert ENTRIES[name].help in PAGE


def test_an_unknown_command_names_the_nearest(run: Run) -> None:
    assert "edgepack: error: unknown command 'biuld' (did you mean 'build'?)" in run("biuld", code=2).stderr


def test_an_unknown_option_names_the_nearest_and_the_help(run: Run) -> None:
    text = run("build", "--traget", "arm64", code=2).stderr

    assert "edgepack: error: No such option '--traget'" in text
    assert "--target" in text
    assert "Try 'edgepack build --help'." in text


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "edgepack", "--version"], capture_output=True, text=True, timeout=60)

    assert done.stdout == f"edgepack, version {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, shell: str) -> None:
    assert f"_EDGEPACK_COMPLETE={shell}_complete" in run("completion", shell).stdout


ARM64 = {name for name in target_names() if name.startswith("arm64")}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("edgepack in", {"init", "inspect"}),
        ("edgepack build --target arm64", ARM64),
        ("edgepack targets arm64", ARM64),
        ("edgepack build --recipe ", {"folder/", "edgepack.toml"}),
        ("edgepack schema m", {"manifest"}),
    ],
)
def test_a_shell_completes(tmp_path: Path, words: str, expected: set[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "edgepack.toml").touch()
    (tmp_path / "model.py").touch()
    position = str(len(words.split()) - (0 if words.endswith(" ") else 1))
    environment = {"_EDGEPACK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}

    done = subprocess.run(
        [sys.executable, "-c", "from edgepack.cli import main; main()"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **environment},
        timeout=60,
    )

    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected
