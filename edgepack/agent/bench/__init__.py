"""The agent: what measures one model in one fresh process on a device. `devices/agent.py` makes one file of it, edgepack-agent.pyz.

It needs the standard library, NumPy and one runtime, and Python 3.9 to 3.13; it imports nothing of edgepack, and its own modules
relatively, because in the archive the package has another name. docs/benchmarking.md says what each number means.
"""
