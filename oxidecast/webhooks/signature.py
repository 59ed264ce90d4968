"""The signature of what is posted, as the Standard Webhooks specification 1.0.0 has it ("Signature scheme", "Webhook
headers"), so that libraries for it verify our posts.

HMAC-SHA256 over `id.timestamp.body`, in base64 after `v1,`. The id stays the same when a post is tried again; the time
stamp is that of the try, so that a receiver can refuse what is old.
"""

import binascii
import hmac
from base64 import b64decode, b64encode

PREFIX = "whsec_"
"""Marks a secret that is written in base64."""


class WrongSecret(ValueError):
    """It has the prefix, and no base64 behind it."""


def key_of(secret: str) -> bytes:
    """The key's bytes: those behind `whsec_` decoded, any other text as UTF-8. Raises WrongSecret."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise WrongSecret from None


def sign(id: str, timestamp: int, body: bytes, key: bytes) -> dict[str, str]:
    """The three headers. `timestamp` is in seconds since 1970; `id` must hold no full stop, which would let what
    follows it be read in two ways."""
    content = f"{id}.{timestamp}.".encode() + body
    signature = b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }
