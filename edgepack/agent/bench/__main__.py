"""Where `python edgepack-agent.pyz …` begins: in the archive this file lies at the root, the others in `edgepack_agent/`."""

import sys
from importlib import import_module

PACKAGE = "edgepack_agent"

if __name__ == "__main__":
    if sys.version_info < (3, 9):  # noqa: UP036 - said in words that an older Python understands, too
        sys.stdout.write(
            '{"event": "error", "agent": 2, "kind": "python", "message": "the agent needs Python 3.9 or newer, this is '
            + sys.version.split()[0]
            + '; name another one with python = ... in devices.toml"}\n'
        )
        sys.exit(3)
    sys.exit(import_module(PACKAGE + ".command").main(sys.argv))
