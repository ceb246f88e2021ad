"""`edgepack tune` under the budget of issue 6: 60 kB on the wire, at most one point lost, 20 minutes on two cores.

Afterwards, outside of that time, the best trial of each method alone is trained in full on all training samples and judged on the test images as the
recommended combination was: the search itself trains what isn't promising for a quarter of its time only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.places import EXAMPLES, cases
from edgepack.core.types import Silent
from edgepack.recipe import Recipe, TuneSection, load_recipe
from edgepack.tune import Found, Numbers, tune
from edgepack.tune.alone import TOGETHER, compared
from edgepack.tune.budget import budget_of
from edgepack.tune.front import Row
from edgepack.tune.measure import Judge
from edgepack.tune.page import write_pages

TIME_LIMIT_S = float(os.environ.get("EDGEPACK_BENCHMARK_TUNE_MINUTES", "20")) * 60
TRIALS = 200  # time ends the search
WORKERS = 2
BUDGET = TuneSection(max_size=60_000, max_drop_points=1.0)
_FILES = ("model.py", "edgepack.toml", "labels.txt", "weights.safetensors")


def run() -> None:
    """Print what was found, beside each method alone; the pages stay in EDGEPACK_BENCHMARK_KEEP, if it is set."""
    if not any(case.name == "fashion_mnist" for case in cases()):
        return
    with tempfile.TemporaryDirectory() as scratch:
        project = fashion_mnist(Path(scratch) / "fashion_mnist")
        recipe = load_recipe(project / "edgepack.toml")
        recipe = recipe.model_copy(update={"tune": BUDGET})
        started = time.monotonic()
        found = tune(
            recipe,
            folder=project,
            target="arm64",
            trials=TRIALS,
            time_limit_s=TIME_LIMIT_S,
            workers=WORKERS,
            watch=_Told().rows,
        )
        seconds = time.monotonic() - started
        _print_found(found, seconds)
        _keep(found)
        _print_compared(found, judge_on_test_images(recipe, project))


def judge_on_test_images(recipe: Recipe, project: Path, *, threads: int | None = None) -> Judge:
    """What trains combinations on all training samples and judges them as the final judgement of a search does."""
    return Judge(
        recipe=recipe,
        folder=project,
        work_folder=None,
        dist_folder=None,
        target="arm64",
        device="local",
        budget=budget_of(recipe.tune),
        threads=threads,
        held_out=False,
    )


class _Told:
    """Prints a line for each new result, with the time."""

    def __init__(self) -> None:
        self.started, self.seen = time.monotonic(), set[tuple[int, int]]()

    def rows(self, rows: tuple[Row, ...]) -> None:
        for row in rows:
            if (key := (row.trial.number, row.trial.rung)) not in self.seen:
                self.seen.add(key)
                numbers, minutes = row.numbers, (time.monotonic() - self.started) / 60
                print(
                    f"{minutes:5.1f} min  trial {row.trial.number:2}  {row.share:4.0%}  {numbers.wire_bytes:7,} B {numbers.drop_points:+.2f}  {row.words}",
                    flush=True,
                )


def fashion_mnist(folder: Path) -> Path:
    """A copy of the example without what earlier builds left."""
    source = EXAMPLES / "fashion_mnist"
    subprocess.run([sys.executable, source / "train.py"], check=True)
    folder.mkdir(parents=True)
    for name in _FILES:
        shutil.copyfile(source / name, folder / name)
    return folder


def _print_found(found: Found, seconds: float) -> None:
    print(
        f"\nbudget: {found.budget.size_bytes:,} bytes on the wire, {found.budget.drop_points} points; {len(found.rows)} trials"
    )
    print(f"load of the machine now: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"the original: {found.original.wire_bytes:,} bytes")
    if found.chosen is None:
        print(f"NOT met after {seconds / 60:.1f} min; nearest: {found.nearest[0].words} {_told(found.nearest[1])}")
    else:
        print(f"met after {seconds / 60:.1f} min, with its bundle: {found.chosen.row.words}")
        print(f"on {found.chosen.final.samples:,} test images: {_told(found.chosen.final)}")
    for row, numbers, why in found.refused:
        print(f"refused on the test images: {row.words}: {_told(numbers)} ({why})")


def _print_compared(found: Found, judge: Judge) -> None:
    """The best of each method alone, and the recommended combination, trained in full and judged on the test images."""
    print("\n| | steps | packed, bytes | points lost on the test images |\n|---|---|---|---|")
    if found.chosen is not None:
        final = found.chosen.final
        print(
            f"| recommended | {found.chosen.row.words} | {final.wire_bytes:,} | {final.drop_points:+.2f} |", flush=True
        )
    for best in compared(found.rows, found.budget):
        if best.of == TOGETHER:
            continue
        fits = "" if best.fits else ", the nearest: nothing of it fits"
        numbers = judge.numbers(best.row.trial.steps, Silent())
        print(
            f"| {best.of} alone{fits} | {best.row.words} | {numbers.wire_bytes:,} | {numbers.drop_points:+.2f} |",
            flush=True,
        )


def _told(numbers: Numbers) -> str:
    return f"{numbers.wire_bytes:,} bytes packed ({numbers.file_bytes:,} as a file), {numbers.drop_points:+.2f} points lost ({100 * numbers.accuracy:.2f} %)"


def _keep(found: Found) -> None:
    if place := os.environ.get("EDGEPACK_BENCHMARK_KEEP"):
        Path(place).mkdir(parents=True, exist_ok=True)
        for page in write_pages(found):
            shutil.copyfile(page, Path(place) / page.name)
        print(f"pages kept in {place}")
