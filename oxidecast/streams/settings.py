"""[streams]: how long a stream outlives its publisher, and how much of it is kept for newcomers."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Seconds, Section, Size


class StreamsSettings(Section, frozen=True, kw_only=True):
    """[streams]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"publisher_grace"})

    publisher_grace: Annotated[float, Meta(ge=0)] = 15.0
    gop_cache_size: Size = 16_777_216
    gop_cache_duration: Seconds = 12.0
