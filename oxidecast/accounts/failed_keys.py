"""Too many unknown stream keys from one network, over all ways of publishing together.

Keys cannot be guessed (they are random, with 160 bits). What many guesses cost is the database, which has to be asked
about each, so they are refused before that.

The one idea: a network that has used up its guesses may still publish with keys that have been good since the start
of the server. So whoever floods from behind a shared address does not keep out those who publish there; only a key
that is new here waits, seconds, until the network has a guess again. It tells a guesser nothing: only who has such a
key is asked about it.
"""

import secrets
from collections import OrderedDict
from hashlib import blake2b

from oxidecast.accounts.admission import Admission
from oxidecast.accounts.errors import KNOWN_KEY
from oxidecast.interfaces import PublishRequest, Refused

REMEMBERED = 10_000
"""Keys, of which only keyed hashes are kept: about 1 MB. No server has so many publishers."""


class FailedKeys:
    """The hub's guard."""

    def __init__(self, admission: Admission, remembered: int = REMEMBERED) -> None:
        self._admission = admission
        self._remembered = remembered
        self._secret = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def asked(self, request: PublishRequest) -> None:
        """Somebody is about to be asked about a key. It counts as a guess until it is known to be good, so that many at
        once are as many guesses. Raises Refused."""
        if self._digest(request.key) in self._good:
            return
        wait = self._admission.take("failed_keys", request.address)
        if wait:
            raise Refused(
                "too_many_failed_keys",
                f"Too many unknown stream keys came from your network: try again in {wait} s.",
            )

    def answered(self, request: PublishRequest, code: str | None) -> None:
        """What came of it: None when the key publishes, else why it does not. A key that may not publish now, because
        its stream is stopped for example, is no guess."""
        digest = self._digest(request.key)
        if code is None or code in KNOWN_KEY:
            if digest not in self._good:
                self._admission.give_back("failed_keys", request.address)
            self._good[digest] = None
            self._good.move_to_end(digest)
            if len(self._good) > self._remembered:
                self._good.popitem(last=False)
        elif code != "unavailable":
            self._good.pop(digest, None)
        elif digest not in self._good:
            self._admission.give_back("failed_keys", request.address)

    def _digest(self, key: str) -> bytes:
        return blake2b(key.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=16).digest()
