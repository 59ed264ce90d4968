"""The server's own secrets: from the settings, else generated once and kept in the data directory."""

import secrets
import tomllib
from pathlib import Path

import msgspec

from oxidecast.settings.errors import SettingsError
from oxidecast.settings.private import read_private, write_private_once
from oxidecast.settings.section import MINIMUM_SECRET

FILE = "secrets.toml"


class NoSecrets(SettingsError):
    """There are none yet."""


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Both are at least 32 bytes of key material."""

    server: bytes
    """Stream keys are found and encrypted with keys derived from it."""
    jwt: bytes
    """Signs access and playback tokens."""

    def __repr__(self) -> str:
        return "Secrets(***)"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server_secret: str
    jwt_secret: str


def open_secrets(
    data_directory: Path,
    *,
    server_secret: str | None = None,
    jwt_secret: str | None = None,
    make: bool = True,
) -> Secrets:
    """The secrets that the settings give, and from `secrets.toml` those that they do not. When the file does not
    exist it is made, or NoSecrets raised where `make` is false. Raises SettingsError when it cannot be read, or does
    not hold what it should."""
    if server_secret is None or jwt_secret is None:
        kept = _kept(data_directory / FILE, make)
        server_secret = server_secret if server_secret is not None else kept.server_secret
        jwt_secret = jwt_secret if jwt_secret is not None else kept.jwt_secret
    return Secrets(server=server_secret.encode(), jwt=jwt_secret.encode())


def _kept(file: Path, make: bool) -> _File:
    text = read_private(file)
    if text is None and not make:
        raise NoSecrets(f"There is no {file}: restore it from a backup, or name the server's --data-dir.")
    if text is None:
        text = write_private_once(
            file,
            "# Made by OxideCast on its first start. Keep it private, and back it up with the database:\n"
            "# without server_secret the stored stream keys cannot be read.\n"
            f'server_secret = "{secrets.token_urlsafe(48)}"\n'
            f'jwt_secret = "{secrets.token_urlsafe(48)}"\n',
        )
    try:
        kept = msgspec.convert(tomllib.loads(text), _File)
    except (ValueError, RecursionError):  # msgspec's and tomllib's errors are ValueErrors
        kept = None
    if kept is None or min(len(kept.server_secret.encode()), len(kept.jwt_secret.encode())) < MINIMUM_SECRET:
        raise SettingsError(
            f"{file} is damaged: restore it from a backup, or remove it and make new stream keys."
        )
    return kept
