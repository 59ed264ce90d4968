"""The certificates that the server shows: found in PEM files, put together with their keys and chains.

The one idea: a set of files is taken as a whole or not at all. What is wrong with it is one sentence, which the start,
a renewal and `oxidecast check` all say. Twisted's own `tls:` endpoint reads a folder of the same form, but it reads it
again for every name that it does not know, and keeps an old certificate until then.
"""

import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from oxidecast.settings.errors import StartError
from oxidecast.settings.sections import TlsSettings

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

MAXIMUM_FILE = 1 << 20
"""Bytes of one PEM file. A certificate with its chain and key is below 20 KB."""

MAXIMUM_FILES = 2000
"""PEM files in a folder and the folders in it: 500 names in the four files that certbot makes for each."""

LONGEST_CHAIN = 8
"""Certificates between ours and a root; there are one or two."""

EXPIRES_SOON = timedelta(days=14)
SOON_PART = 6
"""A certificate expires soon when less than 14 days and a sixth of its life are left. Programs that renew do so when a
third of it is left, so by then that has failed for a while."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.S)


class CertificateError(StartError):
    """The certificates cannot be used; the message says which file, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, with what belongs to it."""

    file: Path
    key_file: Path
    names: tuple[str, ...]
    """Hosts it is for, in lower case, as it names them: `example.com`, `*.example.com`, `192.0.2.1`."""
    not_before: datetime
    not_after: datetime
    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: Key = field(repr=False)

    @property
    def name(self) -> str:
        """What it is called in logs and metrics: its first name, or its file's."""
        return self.names[0] if self.names else self.file.name

    def is_valid(self, now: datetime) -> bool:
        return self.not_before <= now <= self.not_after

    def trouble(self, now: datetime) -> str:
        """Why clients refuse it now, as a sentence; empty when they do not."""
        if now > self.not_after:
            return f"the certificate for {self.name} expired on {self.not_after:%Y-%m-%d}: renew it ({self.file})"
        if now < self.not_before:
            return f"the certificate for {self.name} begins on {self.not_before:%Y-%m-%d %H:%M} UTC ({self.file})"
        if not self.names:
            return f"the certificate in {self.file} names no host (it has no subjectAltName): get another one"
        return ""

    def doubt(self, now: datetime) -> str:
        """What should be looked at before clients refuse it; empty when all is well."""
        if self.not_after - now < min(EXPIRES_SOON, (self.not_after - self.not_before) / SOON_PART):
            return f"the certificate for {self.name} expires on {self.not_after:%Y-%m-%d}: renew it ({self.file})"
        return ""


def wildcard(host: str) -> str:
    """The wildcard that would cover a host: `*.example.com` for `www.example.com` (RFC 9525, 6.3: it stands for one
    whole label, the first)."""
    return f"*.{host.partition('.')[2]}"


class Source:
    """Where the settings say that certificates are. Relative paths lie below the data directory."""

    def __init__(self, settings: TlsSettings, data_directory: Path) -> None:
        def place(path: str | None) -> Path | None:
            return data_directory / path if path else None

        self._directory = place(settings.certificate_directory)
        self._file = place(settings.certificate_file)
        self._key_file = place(settings.key_file) or self._file

    def __bool__(self) -> bool:
        """Whether there are certificates, and so TLS."""
        return self._directory is not None or self._file is not None

    def signature(self) -> Any:
        """A value that changes when a file does; it raises nothing, because a later look will."""
        try:
            return tuple(
                # The time of change is also that of a chmod, after which a file may be readable.
                (path, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino)
                for path in self.files()
                for status in (path.stat(),)
            )
        except (OSError, CertificateError) as error:
            return str(error)

    def files(self) -> list[Path]:
        """The PEM files, those of `default` first. Raises CertificateError."""
        if self._directory is None:
            return list(dict.fromkeys(path for path in (self._file, self._key_file) if path is not None))
        found: list[Path] = []
        try:
            for path in sorted(self._directory.iterdir()):
                # certbot keeps the files of each certificate in a folder of their own.
                inside = sorted(path.iterdir()) if path.is_dir() else [path]
                found += [file for file in inside if file.suffix == ".pem" and file.is_file()]
                if len(found) > MAXIMUM_FILES:
                    raise CertificateError(f"{self._directory} holds more than {MAXIMUM_FILES} PEM files")
        except OSError as error:
            raise CertificateError(_unreadable(self._directory, error))
        if not found:
            raise CertificateError(f"{self._directory} holds no file that ends in .pem")
        return sorted(found, key=lambda file: "default" not in (file.stem, file.parent.name))

    def read(self) -> list[Certificate]:
        """The certificates, the one for clients that name no host first. Raises CertificateError."""
        leaves: dict[bytes, tuple[Path, x509.Certificate]] = {}
        keys: list[tuple[Path, Key]] = []
        for file in self.files():
            for thing in _contents(file):
                if isinstance(thing, x509.Certificate):
                    leaves.setdefault(thing.public_bytes(Encoding.DER), (file, thing))
                else:
                    keys.append((file, thing))
        pool = list(leaves.values())
        if not keys:
            raise CertificateError(f"no file holds a private key: {self._where()}")
        if not pool:
            raise CertificateError(f"no file holds a certificate: {self._where()}")
        found: list[Certificate] = []
        for file, leaf in pool:
            public = _public(leaf)
            fits = next((pair for pair in keys if _public(pair[1]) == public), None)
            if fits is not None:
                found.append(_certificate(file, leaf, *fits, [other for _, other in pool]))
            elif self._directory is not None and not _is_authority(leaf):
                raise CertificateError(
                    f"no key fits the certificate in {file}: put its private key into {self._directory}"
                )
        if not found or (self._directory is None and found[0].leaf is not pool[0][1]):
            raise CertificateError(
                f"the key in {keys[0][0]} does not fit the certificate in {pool[0][0]}: they are not of one pair"
            )
        return found

    def notices(self) -> Iterator[str]:
        """What an operator should hear of the files themselves: who else can read a key."""
        for file in self.files():
            # That its group can is a usual way to let a server read what root renews.
            if file.stat().st_mode & stat.S_IROTH and any(isinstance(one, Key) for one in _contents(file)):
                yield f"every user can read the private key in {file}: run chmod o-r on it"

    def _where(self) -> str:
        return str(self._directory or self._file)


def chosen(certificates: Sequence[Certificate], now: datetime) -> dict[str, Certificate]:
    """Which certificate is shown for which name. Of several the one that is valid now, and longest."""
    best: dict[str, Certificate] = {}
    for certificate in certificates:
        for name in certificate.names:
            rival = best.get(name)
            if rival is None or _worth(certificate, now) > _worth(rival, now):
                best[name] = certificate
    return best


def in_use(certificates: Sequence[Certificate], now: datetime) -> list[Certificate]:
    """Those that are shown to anybody, the default first: an old one beside its successor is not."""
    best = chosen(certificates, now)
    default = best.get(certificates[0].name, certificates[0])
    used = {id(certificate) for certificate in best.values()} - {id(default)}
    return [default, *(certificate for certificate in certificates if id(certificate) in used)]


def labels(certificates: Sequence[Certificate]) -> dict[str, Certificate]:
    """The certificates by names that differ: for metrics."""
    seen: Counter[str] = Counter()
    named: dict[str, Certificate] = {}
    for certificate in certificates:
        seen[certificate.name] += 1
        count = seen[certificate.name]
        named[certificate.name if count == 1 else f"{certificate.name} #{count}"] = certificate
    return named


def _worth(certificate: Certificate, now: datetime) -> tuple[bool, datetime]:
    return certificate.is_valid(now), certificate.not_after


def _contents(file: Path) -> Iterator[x509.Certificate | Key]:
    """Certificates and keys of a PEM file, in their order. Raises CertificateError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAXIMUM_FILE + 1)
    except OSError as error:
        raise CertificateError(_unreadable(file, error))
    if len(data) > MAXIMUM_FILE:
        raise CertificateError(f"{file} is larger than {MAXIMUM_FILE >> 20} MiB: it is no PEM file")
    for block in _BLOCK.finditer(data):
        label, pem = block[1], block[0] + b"\n"
        if label in (b"CERTIFICATE", b"X509 CERTIFICATE"):
            yield _parsed_certificate(file, pem)
        elif label.endswith(b"PRIVATE KEY"):
            yield _parsed_key(file, label, pem)


# A stranger's file makes cryptography raise a dozen kinds of exceptions, not all of them documented.


def _parsed_certificate(file: Path, pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _names(certificate), _is_authority(certificate), _public(certificate)
    except Exception:
        raise CertificateError(f"{file} holds a certificate that is damaged: get it again")
    return certificate


def _parsed_key(file: Path, label: bytes, pem: bytes) -> Key:
    if label.startswith(b"ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in pem:
        raise CertificateError(
            f"the private key in {file} is protected by a password: write it without one (openssl pkey)"
        )
    try:
        key = load_pem_private_key(pem, None)
    except Exception:
        raise CertificateError(f"{file} holds a private key that is damaged")
    if not isinstance(key, Key):
        raise CertificateError(
            f"the private key in {file} is of a kind that TLS does not use: take EC or RSA"
        )
    return key


def _certificate(
    file: Path, leaf: x509.Certificate, key_file: Path, key: Key, pool: Sequence[x509.Certificate]
) -> Certificate:
    return Certificate(
        file=file,
        key_file=key_file,
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        leaf=leaf,
        chain=_chain(leaf, pool),
        key=key,
    )


def _chain(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """From the issuer of `leaf` upwards, without a root: clients have that, or must not trust it from here."""
    chain: list[x509.Certificate] = []
    top = leaf
    while len(chain) < LONGEST_CHAIN and top.issuer != top.subject:
        issuers = [
            other
            for other in pool
            if other.subject == top.issuer
            and other.issuer != other.subject
            and other not in chain
            and _signed_by(top, other)
        ]
        if not issuers:
            break
        top = max(issuers, key=lambda issuer: issuer.not_valid_after_utc)
        chain.append(top)
    return tuple(chain)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        return False
    return True


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The hosts of its subjectAltName; a common name has not counted as one for years (RFC 9525, 2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys(hosts + addresses))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _public(holder: x509.Certificate | Key) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as certificates count them."""
    return datetime.fromtimestamp(seconds, UTC)
