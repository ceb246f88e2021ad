"""Reports of benchmarks: one HTML file that works offline. `html.py` makes it, `figures.py` has every number in it."""
