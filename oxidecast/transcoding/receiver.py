"""Who takes what the transcoder's child makes."""

from typing import Protocol

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Figures, Thumbnail, Trouble
from oxidecast.media import Track


class Receiver(Protocol):
    """Who takes what the child makes. All calls are made in the reactor's thread."""

    def track(self, track: Track) -> None:
        """A feed's configuration; `track.id` is the feed's number."""

    def packet(self, packet: FramedPacket) -> None:
        """`packet.track_id` is the feed's number."""

    def discontinuity(self, number: int) -> None:
        """What follows does not continue what came before, as the source said: `number` of its discontinuities. The
        child tells of its sound once more. A new child goes on where the one before it was, at a keyframe of each
        feed and with sound that may be there already; or later, where that cannot be."""

    def feed_ended(self, feed: int) -> None:
        """A feed that the job no longer has."""

    def thumbnail(self, thumbnail: Thumbnail) -> None: ...

    def figures(self, figures: Figures) -> None:
        """Every second. Its counts begin at 0 with each child."""

    def trouble(self, trouble: Trouble) -> None:
        """A sentence for people."""

    def gave_up(self, reason: str) -> None:
        """No further child is started; `restart` does."""
