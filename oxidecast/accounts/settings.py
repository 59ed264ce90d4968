"""[auth]: tokens and who may register."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Seconds, Section, require_long_secret

KEY_LIFETIME = 86_400.0
"""Seconds: an outage of a night and a morning."""


class AuthSettings(Section, frozen=True, kw_only=True):
    """[auth]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"jwt_secret"})
    reloadable: ClassVar[frozenset[str]] = frozenset({"open_registration", "key_lifetime"})

    jwt_secret: str | None = None
    jwt_expiry: Seconds = 3600.0
    refresh_expiry: Seconds = 2_592_000.0
    open_registration: bool = False
    key_lifetime: Annotated[float, Meta(ge=0)] = KEY_LIFETIME

    def __post_init__(self) -> None:
        require_long_secret("jwt_secret", self.jwt_secret)
