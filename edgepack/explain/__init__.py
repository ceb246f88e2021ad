"""What each layer of a bundle's model costs: parameters, multiplications, bytes, bits (docs/explain.md)."""

from edgepack.explain.account import Account, LayerAccount
from edgepack.explain.explain import explain

__all__ = ["Account", "LayerAccount", "explain"]
