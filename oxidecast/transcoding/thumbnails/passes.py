"""What opens the sheet of a private stream's storyboard for who was shown the list of its tiles.

The one idea: the list names the sheet's address, and players ask for that without anything else. So the list gives them
a pass: a keyed hash over the stream and this broadcast, which opens nothing but the sheet and is no token of anybody's.
"""

import hmac

from oxidecast.accounts.limits import network_of
from oxidecast.interfaces import IStream

_FREE, _BOUND = "0", "1"
"""The last character: whether it is good from everywhere, or from one network."""

_PROOF = 32


class Passes:
    """Made with the server's `secret`; nothing is remembered."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new(self, stream: IStream, only_for: str = "") -> str:
        """For everybody who has it, or `only_for` an address's network."""
        return self._proof(stream, only_for) + (_BOUND if only_for else _FREE)

    def opens(self, given: str, stream: IStream, address: str) -> bool:
        """Whether `new` of this broadcast made it, for this address."""
        kind = given[-1:]
        proof = self._proof(stream, address if kind == _BOUND else "")
        return given.isascii() and hmac.compare_digest(given, proof + kind)

    def _proof(self, stream: IStream, address: str) -> str:
        network = network_of(address) if address else ""
        proven = f"{stream.id}/{stream.started_at:.3f}/{network}"
        return hmac.digest(self._secret, proven.encode(), "sha256").hex()[:_PROOF]
