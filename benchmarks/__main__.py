"""`python -m benchmarks [NAME]… [--only MODEL]`: print the figures of one page, or of all."""

from __future__ import annotations

import importlib
import os
import sys

PAGES = {
    "startup": "how long --help and a build with nothing to do take",
    "demo": "make demo's steps, cold and warm, without the installation",
    "fidelity": "agreement, steps, operators, accuracy and size of the examples' bundles",
    "parity": "agreement of LiteRT, OpenVINO and ONNX Runtime, pair by pair, on each example",
    "speed": "int8 against float in LiteRT, OpenVINO and ONNX Runtime, EfficientNet-Lite0, one thread, interleaved",
    "targets": "three targets against each alone after the shared training; time and memory of exporting to all, EfficientNet-Lite0",
    "overhead": "the build's own time over that of the libraries it calls",
    "harness": "p50 and memory of the agent against a bare loop around the runtime, EfficientNet-Lite0 int8, interleaved",
    "operator_versions": "the operators that tflite-runtime 2.14 knows, asked of it, against the committed table",
    "gate": "false alarms and missed slowdowns of `edgepack gate`: real A/A and A/B runs on this machine, and simulated",
    "store": "inserting 10,000 runs, and reading those of 300 devices × 1,000 runs: time and memory",
    "report": "edgepack report over 300 devices × 1,000 runs: time, memory and the page's size",
    "updates": "whole delta files of EfficientNet-Lite0 int8 against zstd --patch-from, bsdiff4 and detools",
    "wire": "pack and unpack of EfficientNet-Lite0 int8's bundle: time, MB/s, memory beside the output",
    "sentiment": "the text example in int8 and int4, and its transformer: accuracy, precision, recall, F1, and bytes on each runtime",
    "tune": "edgepack tune on Fashion-MNIST under 60 kB and one point: found, time, against each method alone (20 minutes, then some)",
    "tune_alone": "each method alone, and together, under that budget, trained in full on all training images (an hour of one core)",
    "distill": "MNIST, 784-128-10 → 784-64-10: labels alone against distillation, 3 seeds",
    "compression": "LeNets over 3 seeds, then ResNet-20, DS-CNN and EfficientNet-Lite0 by every compressed recipe: points, bytes, time (hours at first)",
    "channels_by_latency": "ResNet-20 with 20 to 60 % of its latency asked off by narrower layers: found, MACs left, measured in pairs",
    "size": "bits a weight of packed weights beside zstd, xz, brotli and Huffman codes; speed of unpacking",
    "training": "a training step, channels last and with memory that is kept, interleaved: ResNet-20, its QAT, EfficientNet-Lite0",
    "memory": "peak memory and time of EfficientNet-Lite0 PTQ and QAT builds",
}


def main() -> int:
    """Run the pages named on the command line, or all."""
    arguments = sys.argv[1:]
    if "--only" in arguments:
        at = arguments.index("--only")
        os.environ["EDGEPACK_BENCHMARK_ONLY"] = arguments[at + 1]
        del arguments[at : at + 2]
    wanted = arguments or list(PAGES)
    if unknown := [name for name in wanted if name not in PAGES]:
        print(f"usage: python -m benchmarks [{' | '.join(PAGES)}] [--only PART-OF-A-MODEL'S-NAME]")
        print("\n".join(f"  {name:18} {text}" for name, text in PAGES.items()))
        return 0 if unknown[0] in ("-h", "--help") else 2
    for name in wanted:
        print(f"\n## {name}: {PAGES[name]}\n", flush=True)
        importlib.import_module(f"benchmarks.{name}").run()
    return 0


if __name__ == "__main__":  # spawned processes import it
    sys.exit(main())
