"""[auth]: tokens and who may register."""

from typing import ClassVar

from oxidecast.settings.section import Seconds, Section, require_long_secret


class AuthSettings(Section, frozen=True, kw_only=True):
    """[auth]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"jwt_secret"})
    reloadable: ClassVar[frozenset[str]] = frozenset({"open_registration"})

    jwt_secret: str | None = None
    jwt_expiry: Seconds = 3600.0
    refresh_expiry: Seconds = 2_592_000.0
    open_registration: bool = False

    def __post_init__(self) -> None:
        require_long_secret("jwt_secret", self.jwt_secret)
