"""[recording]: how long one file grows, and how far a disk may fall behind. Where files lie is in [storage]."""

from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Section, Size

LONGEST = 86_400.0
"""Seconds that one file may hold at most."""


class RecordingSettings(Section, frozen=True, kw_only=True):
    """[recording]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"max_duration", "max_buffer"})

    max_duration: Annotated[float, Meta(gt=0, le=LONGEST)] = 14_400.0
    max_buffer: Size = 33_554_432
