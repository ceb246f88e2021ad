"""What fuzzing found stays found: every kept input runs through its target, in Python and in C with sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from c_harness import TARGETS as C_TARGETS
from c_harness import build
from fuzzing import CORPUS, all_seeds, mutators, targets


@pytest.mark.parametrize("name", sorted(targets()))
def test_every_kept_input_is_taken_or_refused_cleanly(name: str) -> None:
    inputs = sorted((CORPUS / name).glob("*"))

    assert inputs, "python tests/fuzz/fuzzing.py --seeds"
    for path in inputs:
        targets()[name](path.read_bytes())


@pytest.mark.parametrize("target", sorted(C_TARGETS))
def test_the_decoder_in_c_touches_no_byte_beside_its_buffers(target: str, tmp_path: Path) -> None:
    try:
        program = build(target, tmp_path / target, fuzzer=False)
    except (subprocess.CalledProcessError, AssertionError) as exc:
        pytest.skip(f"no C compiler with sanitizers: {exc}")
    inputs = sorted((CORPUS / C_TARGETS[target]).glob("*"))

    ended = subprocess.run([program, *inputs], capture_output=True, text=True, timeout=300, check=False)

    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout == f"{len(inputs)} files\n"


@pytest.mark.parametrize("name", sorted(mutators()))
def test_a_changed_input_is_an_input(name: str) -> None:
    """Without the fuzzer: bytes are changed by a stand-in for its own changes."""
    for path in sorted((CORPUS / name).glob("*"))[:4]:
        for seed in range(8):
            changed = mutators()[name](path.read_bytes(), 16384, seed, lambda data, size: data[::-1][:size])
            targets()[name](changed)


def test_the_seeds_are_what_edgepack_writes_today() -> None:
    for target, seeds in all_seeds().items():
        assert seeds
        for data in seeds.values():
            targets()[target](data)
