"""The server's certificate, and the fingerprints by which two peers know each other (RFC 8122)."""

import hmac
import re
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto

from oxidecast.media.errors import RemoteProtocolError

VALIDITY = timedelta(days=365)
"""Nobody looks: what proves a peer is the fingerprint in its SDP. A year outlives any process."""

_DIGESTS = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
"""OpenSSL's names, from weak to strong. SHA-1 and MD5 are left out: certificates with a given SHA-1 can be made."""

_STRENGTH = list(_DIGESTS)
_VALUE = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){15,63}")


class Fingerprint(msgspec.Struct, frozen=True):
    """One `a=fingerprint`: algorithm in lower case, octets as upper-case pairs between colons."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"

    @classmethod
    def parse(cls, text: str) -> "Fingerprint":
        """From the value of the SDP attribute. An algorithm that we do not know is no error."""
        algorithm, _, value = text.strip().partition(" ")
        value = value.strip().upper()
        if not algorithm or not _VALUE.fullmatch(value):
            raise RemoteProtocolError("a=fingerprint is not an algorithm and 16 to 64 octets in hexadecimal")
        return cls(algorithm.lower(), value)


class Certificate:
    """A private key and its self-signed certificate: made once, shown to all peers."""

    __slots__ = ("certificate", "fingerprint", "key")

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.certificate = certificate
        self.fingerprint = Fingerprint("sha-256", certificate.fingerprint(hashes.SHA256()).hex(":").upper())
        """For the answer."""

    @classmethod
    def generate(cls, now: datetime) -> "Certificate":
        """A new one on P-256, which every browser has and which is the fastest."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "WebRTC")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))  # clocks differ
            .not_valid_after(now + VALIDITY)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)


def matches(certificate: crypto.X509, fingerprints: tuple[Fingerprint, ...]) -> bool:
    """Whether a certificate has one of the fingerprints of the strongest algorithm among them (RFC 8122 5)."""
    known = [fingerprint for fingerprint in fingerprints if fingerprint.algorithm in _DIGESTS]
    if not known:
        return False
    strongest = max((fingerprint.algorithm for fingerprint in known), key=_STRENGTH.index)
    own = certificate.digest(_DIGESTS[strongest])
    return any(
        hmac.compare_digest(own, fingerprint.value.encode())
        for fingerprint in known
        if fingerprint.algorithm == strongest
    )


def usable(fingerprints: tuple[Fingerprint, ...]) -> bool:
    """Whether there is one among them that can be checked: without it an offer is to be refused."""
    return any(fingerprint.algorithm in _DIGESTS for fingerprint in fingerprints)
