"""Where a viewer's pictures or sound come from."""

from oxidecast.interfaces import IRendition, IWant
from oxidecast.media import Track
from oxidecast.outputs.webrtc.feed import Feed

SOURCE = "source"


class Source:
    """The feed that they come from, and the want that keeps it."""

    def __init__(self, feed: Feed | None, want: IWant | None = None) -> None:
        self.feed = feed
        self.want = want

    def release(self) -> None:
        if self.want is not None:
            self.want.release()


def track_of(rendition: IRendition, video: bool) -> Track | None:
    """The picture's or the sound's track."""
    return next((track for track in rendition.tracks if track.is_video is video), None)
