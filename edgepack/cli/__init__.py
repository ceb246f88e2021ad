"""The command line: one file a command, imported when it is called. Every command is in this table.

The module itself loads click and nothing heavier, so that `edgepack --help` and completion answer at once.
"""

from __future__ import annotations

import click

from edgepack import __version__
from edgepack.cli.group import CommandGroup, Entry
from edgepack.cli.invocation import Invocation

SECTIONS: dict[str, dict[str, Entry]] = {
    "Make a bundle": {
        "init": Entry("edgepack.cli.init:init", "Write a commented edgepack.toml to start from."),
        "plan": Entry("edgepack.cli.plan:plan", "Check a recipe and show what a build would do."),
        "build": Entry("edgepack.cli.build:build", "Compress, export, verify and bundle a trained model."),
        "tune": Entry("edgepack.cli.tune:tune", "Search for the methods that keep a budget."),
        "join": Entry("edgepack.cli.join:join", "Make one bundle of several for one model."),
    },
    "Judge it": {
        "verify": Entry("edgepack.cli.verify:verify", "Prove that a bundle is whole, trusted, and runs right."),
        "diff": Entry("edgepack.cli.diff:diff", "Find the first tensor in which two bundles of one model diverge."),
        "bench": Entry("edgepack.cli.bench:bench", "Measure latency, memory and accuracy on a device."),
        "explain": Entry("edgepack.cli.explain:explain", "Show what each layer of a model costs, and what is left."),
        "compare": Entry("edgepack.cli.compare:compare", "Compare two results: B against A."),
        "report": Entry("edgepack.cli.report:report", "Write benchmark results as one HTML page."),
        "gate": Entry("edgepack.cli.gate:gate", "Decide whether a bundle is worse than a baseline."),
        "results": Entry("edgepack.cli.results:results", "List, show, export and delete the results of benchmarks."),
    },
    "Sign it": {
        "key": Entry("edgepack.cli.key:key", "Make a key that signs bundles, or show one."),
        "sign": Entry("edgepack.cli.sign:sign", "Sign a bundle."),
        "trust": Entry("edgepack.cli.trust:trust", "List, add, remove and revoke the keys that this machine trusts."),
    },
    "Send it": {
        "pack": Entry("edgepack.cli.pack:pack", "Make a bundle or a model file small for the wire."),
        "delta": Entry("edgepack.cli.pack:delta", "Write what makes a new bundle or model file of an old one."),
        "apply": Entry("edgepack.cli.pack:apply", "Make the new bundle or model file of an old one and a delta."),
    },
    "Use it": {
        "inspect": Entry("edgepack.cli.inspect:inspect", "Show what a bundle says about itself."),
        "unpack": Entry("edgepack.cli.unpack:unpack", "Write a bundle's files into a folder."),
        "appkit": Entry("edgepack.cli.appkit:appkit", "Write code for the app that uses a bundle."),
        "export": Entry("edgepack.cli.export:export", "Lay a bundle's files out as another tool expects them."),
        "pull": Entry("edgepack.cli.pull:pull", "Get a bundle from a registry."),
    },
    "Around it": {
        "targets": Entry("edgepack.cli.targets:targets", "List the kinds of device, or show one."),
        "devices": Entry("edgepack.cli.devices:devices", "List the devices that --device can name, or describe one."),
        "doctor": Entry("edgepack.cli.doctor:doctor", "Check whether this machine has what a build needs."),
        "cache": Entry("edgepack.cli.cache:cache", "Show or prune the finished stages of builds."),
        "schema": Entry("edgepack.cli.schema:schema", "Print a JSON Schema: recipe, manifest or target."),
        "completion": Entry(
            "edgepack.cli.completion:completion", "Print the script that completes commands in a shell."
        ),
    },
}


@click.group(
    cls=CommandGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'edgepack COMMAND --help' shows examples. Start with: edgepack init",
)
@click.version_option(__version__, prog_name="edgepack")
def app() -> None:
    """Turn a trained model into an app-ready bundle for an edge device, and prove that it is small, fast and still right."""


def main() -> None:
    """The console script."""
    app.main(prog_name="edgepack", obj=Invocation(supervised=True))
