"""[auth]: tokens, whose they may be, and who may register."""

from ipaddress import ip_address
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from msgspec import Meta

from oxidecast.database.users import Role
from oxidecast.settings.section import Invalid, Seconds, Section, require_long_secret

ISSUER = "oxidecast"
"""Who our own tokens say they are of."""

Text = Annotated[str, Meta(min_length=1)]


class IssuerSettings(Section, frozen=True, kw_only=True):
    """One [[auth.issuers]]: whose tokens are accepted besides our own."""

    issuer: Text
    jwks_url: Text
    audience: Text
    account_claim: Text = "preferred_username"
    create: bool = False
    role_claim: str = ""
    roles: dict[str, Role] = {}
    allow_http: bool = False

    def __post_init__(self) -> None:
        if self.issuer == ISSUER:
            raise Invalid("issuer", f"must not be {ISSUER!r}, which is this server's own")
        if not _is_address(self.jwks_url, self.allow_http):
            raise Invalid(
                "jwks_url", "must be an https:// address (http:// on this machine, or with allow_http)"
            )
        if self.role_claim and not self.create:
            raise Invalid(
                "role_claim", "goes with create = true: accounts that are made here have their roles here"
            )
        if self.create and self.account_claim == "email":
            raise Invalid(
                "account_claim", "must be one that can be a username where create = true, and not an address"
            )


KEY_LIFETIME = 86_400.0
"""Seconds: an outage of a night and a morning."""


class AuthSettings(Section, frozen=True, kw_only=True):
    """[auth]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"jwt_secret", "previous_jwt_secrets"})
    reloadable: ClassVar[frozenset[str]] = frozenset(
        {
            "jwt_secret",
            "signing_key",
            "previous_jwt_secrets",
            "verification_keys",
            "bind_playback_tokens",
            "open_registration",
            "key_lifetime",
        }
    )

    jwt_secret: str | None = None
    signing_key: str | None = None
    previous_jwt_secrets: tuple[str, ...] = ()
    verification_keys: tuple[str, ...] = ()
    jwt_expiry: Seconds = 3600.0
    refresh_expiry: Seconds = 2_592_000.0
    bind_playback_tokens: bool = False
    open_registration: bool = False
    key_lifetime: Annotated[float, Meta(ge=0)] = KEY_LIFETIME
    issuers: tuple[IssuerSettings, ...] = ()

    def __post_init__(self) -> None:
        require_long_secret("jwt_secret", self.jwt_secret)
        for secret in self.previous_jwt_secrets:
            require_long_secret("previous_jwt_secrets", secret)
        if len({one.issuer for one in self.issuers}) < len(self.issuers):
            raise Invalid("issuers", "must differ in their issuer")


def _is_address(text: str, allow_http: bool) -> bool:
    """Whether keys may be fetched from there: what is changed on the way would open every account."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or not text.isascii() or not text.isprintable() or " " in text or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (allow_http or _is_here(host)))


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
