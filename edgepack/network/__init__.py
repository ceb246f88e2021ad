"""The live network: a `Model` in memory, its NNCF hooks, its graph, its training. Sources make it, exporters read it.

What must be in the environment before torch and NNCF are loaded is set here, because every way to them leads through this package.
"""

import os

# Threads that wait sleep instead of spinning: on a busy two-core machine, spinning made a training 30 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# NNCF's own switch for "no telemetry" (nncf/telemetry/wrapper.py, 3.4): edgepack sends nothing anywhere.
os.environ.setdefault("NNCF_CI", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
