"""The keys that tokens are signed with, and by which they are known again.

The one idea: a key is of one algorithm and has one name, `kid`. A token is checked with the key that it names, and by
that key's own algorithm, whatever it says itself. So who takes a public key for an HMAC secret finds no key of that
kind, and a token without a signature has none to be checked by.
"""

import base64
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from twisted.logger import Logger

from oxidecast.settings.errors import StartError

LEAST_RSA = 2048
"""Bits (RFC 7518, 3.3)."""
LARGEST_FILE = 65_536
"""Bytes of a PEM file; keys have a few thousand."""

log = Logger()


@dataclass(frozen=True)
class Key:
    """One key. What it signs and verifies with is for PyJWT, and never shown."""

    kid: str
    algorithm: str
    verifies: Any = field(repr=False)
    signs: Any = field(default=None, repr=False)
    """None where only the public half is here."""
    public: Mapping[str, str] | None = None
    """As others get it (a JWK, RFC 7517); None for a secret, which nobody gets."""


class Keyring:
    """The key that signs, and those that verify besides it because they signed before."""

    def __init__(self, signing: Key, *before: Key) -> None:
        self.signing = signing
        self._by_kid = {key.kid: key for key in (*before, signing)}

    def find(self, kid: object) -> Key | None:
        """The key of that name; `kid` is whatever a token says."""
        return self._by_kid.get(kid) if isinstance(kid, str) else None

    @property
    def published(self) -> list[Mapping[str, str]]:
        """The public keys."""
        return [key.public for key in self._by_kid.values() if key.public is not None]


def secret_key(secret: bytes) -> Key:
    """HS256 with a secret of at least 32 bytes (RFC 7518, 3.2). Its name tells it from another, and gives nothing of it
    away."""
    kid = hmac.digest(secret, b"oxidecast kid", hashlib.sha256)[:8].hex()
    return Key(kid, "HS256", verifies=secret, signs=secret)


def open_keyring(
    secret: bytes,
    previous_secrets: Sequence[str],
    signing_file: Path | None,
    verifying_files: Sequence[Path],
) -> Keyring:
    """What `[auth]` says of keys. Raises StartError for a file that holds no key that will do."""
    before = [secret_key(text.encode()) for text in previous_secrets]
    before += [_file_key("auth.verification_keys", file, signs=False) for file in verifying_files]
    if signing_file is None:
        return Keyring(secret_key(secret), *before)
    return Keyring(_file_key("auth.signing_key", signing_file, signs=True), *before)


def _file_key(setting: str, file: Path, *, signs: bool) -> Key:
    def fault(sentence: str) -> StartError:
        return StartError(f"{setting}: {file} {sentence}")

    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
            readable = os.fstat(stream.fileno()).st_mode & stat.S_IROTH
    except OSError as error:
        raise fault(f"cannot be read: {error.strerror}")
    try:
        private = load_pem_private_key(data[:LARGEST_FILE], None)
    except TypeError:
        raise fault("is protected by a passphrase, which nobody could type: store the key without one")
    except (ValueError, UnsupportedAlgorithm):
        private = None
    if private is not None and readable:
        log.warn("{setting}: other users can read {file}: run chmod 600 on it", setting=setting, file=file)
    if private is None and signs:
        raise fault("holds no private key in PEM")
    try:
        public = private.public_key() if private is not None else load_pem_public_key(data[:LARGEST_FILE])
    except (ValueError, UnsupportedAlgorithm):
        raise fault("holds no key in PEM, neither a private nor a public one")
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < LEAST_RSA:
            raise fault(f"holds an RSA key of {public.key_size} bits: it takes {LEAST_RSA} or more")
        return _public_key(
            "RS256", RSAAlgorithm.to_jwk(public, as_dict=True), ("e", "kty", "n"), public, private
        )
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        return _public_key("ES256", jwk, ("crv", "kty", "x", "y"), public, private)
    raise fault("holds a key of another kind: it takes an RSA key, or one of the curve P-256")


def _public_key(
    algorithm: str, jwk: Mapping[str, Any], needed: Sequence[str], public: Any, private: Any
) -> Key:
    """A key whose name is its thumbprint (RFC 7638), so that it is called the same wherever it is listed."""
    members = {name: str(jwk[name]) for name in needed}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
    return Key(kid, algorithm, public, private, {**members, "kid": kid, "use": "sig", "alg": algorithm})
