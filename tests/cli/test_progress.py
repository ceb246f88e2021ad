"""Progress on a terminal and elsewhere, also while a library's output is led away."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.cli.progress import Bars, Lines, shown_progress
from edgepack.core.types import Progress, Silent

SCRIPT = """
import os, sys
from pathlib import Path
from edgepack.cli.progress import shown_progress
from edgepack.core.chatter import chatter_to

with shown_progress() as progress, chatter_to(Path(sys.argv[1])):
    progress.start("Converting")
    print("chatter of Python", flush=True)
    os.write(2, b"chatter of C++\\n")
    progress.done("fine")
print("result")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.start("Training [fast]", total=20)
    progress.advance(5, note="loss [0.5]")
    progress.start("Saving")
    progress.done()
    progress.note("half [way]")
    progress.advance(15)
    progress.done("loss 0.5 → 0.1")


def test_a_log_gets_a_line_at_each_start_and_end() -> None:
    stream = io.StringIO()

    work(Lines(stream))

    assert stream.getvalue().splitlines() == [
        "Training [fast] (20) …",
        "Saving …",
        "✓ Saving  0.0 s",
        "half [way]",
        "✓ Training [fast]  0.0 s  loss 0.5 → 0.1",
    ]


def test_a_terminal_keeps_a_line_of_each_finished_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = Bars(stream)

    with bars.rich:
        work(bars)

    drawn = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    for line in ("✓ Training [fast]  0.0 s  loss 0.5 → 0.1", "✓ Saving  0.0 s", "half [way]"):
        assert drawn.count(line) == 1
    assert "Training [fast] ━" in drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize("make", [lambda: Lines(io.StringIO()), lambda: Bars(io.StringIO())])
def test_an_end_without_a_start_is_no_accident(make: object) -> None:
    progress = make()  # type: ignore[operator]
    progress.done()
    progress.advance()


def test_quiet_is_silent() -> None:
    with shown_progress(quiet=True) as progress:
        assert isinstance(progress, Silent)


def test_progress_goes_on_while_a_librarys_output_goes_to_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"

    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, timeout=60)

    assert done.stdout == "result\n"
    assert done.stderr == "Converting …\n✓ Converting  0.0 s  fine\n"
    assert sorted(log.read_text().splitlines()) == ["chatter of C++", "chatter of Python"]
