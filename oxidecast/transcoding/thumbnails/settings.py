"""[thumbnails]: how often a picture is taken of each stream, and how large."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Section


class ThumbnailsSettings(Section, frozen=True, kw_only=True):
    """[thumbnails]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"interval", "width"})

    interval: Annotated[float, Meta(ge=2, le=3600)] = 10.0
    width: Annotated[int, Meta(ge=64, le=1920)] = 640
