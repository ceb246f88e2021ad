"""What each layer of a bundle's model costs: parameters, multiplications, bytes, bits (docs/explain.md)."""

from edgepack.explain.account import Account, LayerAccount
from edgepack.explain.explain import explain
from edgepack.explain.facts import Sensitivity

__all__ = ["Account", "LayerAccount", "Sensitivity", "explain"]
