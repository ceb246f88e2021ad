"""The live network: a `Model` in memory, its NNCF hooks, its graph, its training. Sources make it, exporters read it.

What must be in the environment before torch and NNCF are loaded is set here, because every way to them leads through this package.
"""

import os

from edgepack.core.telemetry import switch_off_telemetry

# Threads that wait sleep instead of spinning: on a busy two-core machine, spinning made a training 30 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
switch_off_telemetry()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
