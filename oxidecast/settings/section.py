"""What the type of a settings section is built from."""

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP or UDP port; 0 asks the system for a free one."""
Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=1)]
"""Bytes."""
Seconds = Annotated[float, Meta(gt=0)]
Bitrate = Annotated[int, Meta(ge=1)]
"""Bits per second."""

MINIMUM_SECRET = 32
"""Bytes. HMAC-SHA256 gains nothing from a key longer than its digest, and loses strength with a shorter one
(RFC 7518, 3.2)."""


class Invalid(ValueError):
    """Raised by a section's `__post_init__`: `key` breaks `rule`, as in `Invalid("workers", "must be 1")`."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(f"{key} {rule}")
        self.key = key
        self.rule = rule


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the sections' types: immutable, every key with a default, secrets hidden from `repr`.

    A plugin may use any msgspec Struct for its section; this base adds the two class attributes below.
    """

    secrets: ClassVar[frozenset[str]] = frozenset()
    """Keys whose values are never shown."""
    reloadable: ClassVar[frozenset[str]] = frozenset()
    """Keys that the running server takes over on SIGHUP; the others need a restart."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, "***" if name in self.secrets and value else value) for name, value in values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__rich_repr__())})"


def require_long_secret(key: str, secret: str | None) -> None:
    """Refuse a secret that a guesser could find."""
    if secret is not None and len(secret.encode()) < MINIMUM_SECRET:
        raise Invalid(key, f"must be at least {MINIMUM_SECRET} bytes long")
