"""Coverage-guided fuzzing: `python tests/fuzz/fuzzing.py --seconds 60 archive manifest`; `make fuzz` runs every target.

Targets of Python run under atheris, those of C (`c-…`) under libFuzzer with AddressSanitizer and UBSan, where clang is there; each in a process of its own.
What it finds grows in `.fuzz/<target>`, beside the
corpus that is kept; a crash is written to `.fuzz/crashes`. `--keep` chooses from what was found the smallest files that together reach every line reached, and keeps them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import c_harness

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS, WORK = HERE / "corpus", ROOT / ".fuzz"
INPUT_BYTES_MAX, KEPT_BYTES_MAX = 16384, 8192
for _folder in (ROOT, ROOT / "tests", ROOT / "tests/bundle", ROOT / "tests/signing", HERE):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

Mutator = Callable[[bytes, int, int, Callable[[bytes, int], bytes]], bytes]
MODULES = ("fuzz_bundle", "fuzz_codec", "fuzz_wire")


def targets() -> dict[str, Callable[[bytes], None]]:
    """Every target by its name."""
    return {name: target for module in MODULES for name, target in __import__(module).TARGETS.items()}


def mutators() -> dict[str, Mutator]:
    """How inputs of some targets are changed, by the target's name; those of others byte by byte."""
    return {name: mutator for module in MODULES for name, mutator in __import__(module).MUTATORS.items()}


def all_seeds() -> dict[str, dict[str, bytes]]:
    """The first inputs by target and name, made anew."""
    return {target: files for module in MODULES for target, files in __import__(module).seeds().items()}


def write_seeds() -> None:
    """Put them into the corpus."""
    for target, files in all_seeds().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (CORPUS / target / f"seed-{name}").write_bytes(data)


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["edgepack"]):
        found = targets()
    options: dict[str, Any] = {}
    if (mutator := mutators().get(name)) is not None:
        options["custom_mutator"] = lambda data, size, seed: mutator(bytes(data), size, seed, atheris.Mutate)
    atheris.Setup([sys.argv[0], *_arguments(name, name, seconds)], found[name], **options)
    atheris.Fuzz()


def keep(name: str) -> int:
    """Add to the kept corpus what reaches lines that it doesn't reach; how many files that is."""
    target, reached, added = targets()[name], set[tuple[str, int, int]](), 0
    kept = sorted((CORPUS / name).glob("*"))
    work = [WORK / name, *(WORK / each for each, corpus in c_harness.TARGETS.items() if corpus == name)]
    found = sorted(
        (p for folder in work for p in folder.glob("*") if p.stat().st_size <= KEPT_BYTES_MAX),
        key=lambda p: (p.stat().st_size, p.name),
    )
    for path in (*kept, *found):
        data = path.read_bytes()
        lines = _lines_of(target, data)
        if path not in kept and lines - reached:
            (CORPUS / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            added += 1
        reached |= lines
    return added


def _lines_of(target: Callable[[bytes], None], data: bytes) -> set[tuple[str, int, int]]:
    """Steps from line to line inside edgepack."""
    lines: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if "/edgepack/" not in frame.f_code.co_filename:
            return None
        last = frame.f_lineno

        def step(inner: FrameType, _event: str, _value: object) -> Any:
            nonlocal last
            lines.add((inner.f_code.co_filename, last, inner.f_lineno))
            last = inner.f_lineno
            return step

        return step

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=100, help="for each target")
    parser.add_argument("--here", action="store_true", help="in this process; one target")
    parser.add_argument("--keep", action="store_true", help="fuzz nothing; keep what was found")
    parser.add_argument("--seeds", action="store_true", help="fuzz nothing; write the seeds anew")
    given = parser.parse_args()
    if given.seeds:
        write_seeds()
        return 0
    names = given.names or [*sorted(targets()), *sorted(c_harness.TARGETS)]
    if given.here:
        fuzz(names[0], given.seconds)
    if given.keep:
        for name in names:
            print(f"{name}: {keep(name)} files kept")
        return 0
    failed = [name for name in names if not _fuzzed(name, given.seconds)]
    print(
        f"{len(names) - len(failed)} of {len(names)} targets without a finding"
        + (f"; see {WORK / 'crashes'}: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def _fuzzed(name: str, seconds: int) -> bool:
    """Whether nothing was found."""
    if name in c_harness.TARGETS and c_harness.clang() is None:
        print(f"{name}: left out, clang is not installed (Debian: apt-get install clang)")
        return True
    command = [sys.executable, __file__, "--here", "--seconds", str(seconds), name]
    if name in c_harness.TARGETS:
        program = c_harness.build(name, WORK / f"{name}-fuzzer", fuzzer=True)
        command = [str(program), *_arguments(name, c_harness.TARGETS[name], seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=seconds + 300)
    runs = re.search(r"stat::number_of_executed_units: *(\d+)", ended.stderr)
    peak = re.search(r"stat::peak_rss_mb: *(\d+)", ended.stderr)
    edges = re.findall(r"cov: (\d+)", ended.stderr)
    count, reached, peak_mb = int(runs[1]) if runs else 0, edges[-1] if edges else "?", peak[1] if peak else "?"
    print(f"{name}: {count:,} runs in {seconds} s, {reached} edges, peak {peak_mb} MB, exit code {ended.returncode}")
    if ended.returncode != 0:
        print(ended.stderr[-4000:])
    sys.stdout.flush()
    return ended.returncode == 0


def _arguments(name: str, corpus: str, seconds: int) -> list[str]:
    """For libFuzzer: its own corpus, the kept one, and the limits of time (20 s for one input), memory and size."""
    (WORK / "crashes").mkdir(parents=True, exist_ok=True)
    (WORK / name).mkdir(exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", "-timeout=20", "-rss_limit_mb=2048"]
    flags += [f"-artifact_prefix={WORK / 'crashes'}/{name}-", "-print_final_stats=1"]
    return [str(WORK / name), str(CORPUS / corpus), *flags]


if __name__ == "__main__":
    sys.exit(main())
