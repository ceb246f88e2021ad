"""Every figure that the README and the issues' notes name, each printed by a command: `python -m benchmarks --help`."""
