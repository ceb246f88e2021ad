"""Who made a bundle: keys, signatures over its manifest, and whom this machine trusts (docs/signing.md)."""

from edgepack.signing.keys import PrivateKey, PublicKey
from edgepack.signing.trust import Trust, TrustResult, check_trust, load_trust

__all__ = ["PrivateKey", "PublicKey", "Trust", "TrustResult", "check_trust", "load_trust"]
