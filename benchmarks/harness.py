"""What measuring itself costs: the agent against a bare loop around the runtime, EfficientNet-Lite0 int8 in LiteRT, one thread."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.places import cases, edgepack, measured
from edgepack.agent.bench.events import Events
from edgepack.agent.bench.inputs import Inputs
from edgepack.agent.bench.loops import Loops, without_collections
from edgepack.agent.bench.runtimes.litert import LiteRt
from edgepack.agent.bench.spec import DEFAULTS
from edgepack.bundle.archive import read_bundle
from edgepack.core.files import cache_folder
from edgepack.devices.agent import AgentSpec, agent_file, ask, put_spec
from edgepack.devices.local import LocalTransport
from edgepack.plan import make_plan
from edgepack.stats import ratio_of_paired_medians

P50_GOAL, MEMORY_GOAL_BYTES = 1.03, 15e6
_BLOCKS, _BLOCK_ITERATIONS, _WARM_UP = 60, 20, 100
_PAIRS, _ITERATIONS = 15, 150
_CASE = "efficientnet_lite0 PTQ"
# What a newcomer writes: the same runtime, one random sample, nothing else. It prints its samples and its memory at the end.
_BARE = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1], num_threads=1)
model.allocate_tensors()
(about,) = model.get_input_details()
low, high = np.iinfo(about["dtype"]).min, np.iinfo(about["dtype"]).max
sample = np.random.default_rng(0).integers(low, high, about["shape"], dtype=about["dtype"], endpoint=True)
model.set_tensor(about["index"], sample)
samples = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter_ns()
    model.invoke()
    samples.append(time.perf_counter_ns() - start)
memory = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(samples, int(memory["VmRSS"].split()[0]) * 1024, sep=";")
"""


def run() -> None:
    """Print the ratio of both medians, within one process and over fresh ones, and what the agent adds to the memory."""
    case = next((case for case in cases() if case.name == _CASE), None)
    if case is None:
        print(f"{_CASE}: left out")
        return
    plan = make_plan(case.recipe, target="arm64")
    if not plan.bundle_path.is_file():
        measured(*edgepack("build", "--recipe", str(case.recipe), "--target", "arm64"))
    model = read_bundle(plan.bundle_path).model_path(cache_folder() / "models")
    in_one_process(model)
    in_fresh_processes(model)


def in_one_process(model: Path) -> None:
    """One loaded model; blocks of the agent's loop and of a bare one by turns (ABBA)."""
    opened = LiteRt(LiteRt.find()[0], dict(DEFAULTS, model=str(model), options=dict(LiteRt.OPTIONS)))
    told = io.StringIO()
    loops = Loops(opened, Inputs(opened, dict(DEFAULTS)), Events(told), max_s=1e9)
    without_collections()
    bare_block(opened.invoke, _WARM_UP)
    agent: list[list[int]] = []
    bare: list[list[int]] = []
    for block in range(_BLOCKS):
        for turn in (0, 1) if block % 2 else (1, 0):
            if turn:
                bare.append(bare_block(opened.invoke, _BLOCK_ITERATIONS))
            else:
                agent.append(agent_block(loops, told))
    show(f"in one process ({_BLOCKS} blocks of {_BLOCK_ITERATIONS} inferences each)", agent, bare, goal=P50_GOAL)


def bare_block(invoke: Any, iterations: int) -> list[int]:
    samples = []
    for _ in range(iterations):
        start = time.perf_counter_ns()
        invoke()
        samples.append(time.perf_counter_ns() - start)
    return samples


def agent_block(loops: Loops, told: io.StringIO) -> list[int]:
    """The samples that the agent's own loop tells of one block."""
    told.seek(0)
    told.truncate()
    loops.measure(min_iterations=_BLOCK_ITERATIONS, min_s=0)
    loops.events.flush()
    events = map(json.loads, told.getvalue().splitlines())
    return [sample for event in events if event["event"] == "samples" for sample in event["ns"]]


def in_fresh_processes(model: Path) -> None:
    """Processes of the agent and of the bare loop by turns; each measures as often."""
    agent, bare, memory = [], [], []
    with LocalTransport() as device, tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(_BARE, encoding="utf-8")
        spec = AgentSpec(
            model=device.put(model),
            warmup_max_s=0,
            duration_min_s=0,
            iterations_min=_ITERATIONS,
            warmup_min_iterations=0,
        )
        question, program = put_spec(device, spec), device.put(agent_file())
        for pair in range(_PAIRS):
            for turn in (0, 1) if pair % 2 else (1, 0):
                if turn:
                    bare.append(bare_process(script, model))
                else:
                    report = ask(device, agent=program, spec=question, label="agent", timeout_s=300)
                    agent.append(list(report.samples_ns))
                    memory.append(report.memory)
    show(f"in fresh processes ({_PAIRS} of each, {_ITERATIONS} inferences)", agent, [samples for samples, _ in bare])
    added = statistics.median(one.after_run_bytes for one in memory) - statistics.median(size for _, size in bare)
    verdict = "within" if added <= MEMORY_GOAL_BYTES else "ABOVE"
    print(f"  memory at the end: the agent adds {added / 1e6:.1f} MB, {verdict} {MEMORY_GOAL_BYTES / 1e6:.0f} MB")


def bare_process(script: Path, model: Path) -> tuple[list[int], int]:
    command = [sys.executable, str(script), str(model), str(_ITERATIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    samples, _, memory = done.stdout.partition(";")
    return json.loads(samples), int(memory)


def show(
    title: str, agent: Sequence[Sequence[int]], bare: Sequence[Sequence[int]], *, goal: float | None = None
) -> None:
    """Both medians, and the median over pairs of the ratio of their medians: what drifts in between hits both alike."""
    medians = [[statistics.median(samples) / 1e6 for samples in side] for side in (agent, bare)]
    ratio = ratio_of_paired_medians(*medians, seed=0)
    p50 = [statistics.median(sample for samples in side for sample in samples) / 1e6 for side in (agent, bare)]
    interval = f"95 % CI {ratio.ci95[0]:.4f} … {ratio.ci95[1]:.4f}" if ratio.ci95 else "too few pairs"
    verdict = "" if goal is None else f", {'within' if ratio.value <= goal else 'ABOVE'} {goal}"
    print(f"{title}:")
    print(
        f"  p50 {p50[0]:.3f} ms by the agent, {p50[1]:.3f} ms by a bare loop: ratio {ratio.value:.4f} ({interval}){verdict}"
    )
