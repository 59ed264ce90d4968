"""[database]: where what must last is kept."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Invalid, Section

POOL_SIZE = 5
"""Connections to PostgreSQL, which has 100 for all its clients by default."""


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """[database]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"url"})

    url: str = "sqlite:///oxidecast.db"
    pool_size: Annotated[int, Meta(ge=1, le=100)] = POOL_SIZE

    def __post_init__(self) -> None:
        if not self.url.startswith(("sqlite:///", "postgresql://", "postgres://")):
            raise Invalid("url", 'must begin with "sqlite:///" or "postgresql://"')
        if self.url.startswith("sqlite:") and self.url.removeprefix("sqlite:///") in {"", ":memory:"}:
            raise Invalid("url", 'must name a file after "sqlite:///"')
