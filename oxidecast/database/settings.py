"""[database]: where what must last is kept."""

from typing import ClassVar

from oxidecast.settings.section import Invalid, Section


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """[database]"""

    secrets: ClassVar[frozenset[str]] = frozenset({"url"})

    url: str = "sqlite:///oxidecast.db"

    def __post_init__(self) -> None:
        if not self.url.startswith(("sqlite:///", "postgresql://", "postgres://")):
            raise Invalid("url", 'must begin with "sqlite:///" or "postgresql://"')
        if self.url.startswith("sqlite:") and self.url.removeprefix("sqlite:///") in {"", ":memory:"}:
            raise Invalid("url", 'must name a file after "sqlite:///"')
