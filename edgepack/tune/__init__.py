"""Searches for the combination of methods that keeps a budget: `search.py` from top to bottom. docs/tune.md says how."""

from edgepack.tune.budget import Budget
from edgepack.tune.numbers import Numbers
from edgepack.tune.search import Found, tune

__all__ = ["Budget", "Found", "Numbers", "tune"]
