"""One broadcast while it goes on: what is counted of it that the stream itself does not count."""

from collections.abc import Iterator
from datetime import UTC, datetime

from oxidecast.analytics.addresses import kept
from oxidecast.database.history import Broadcast, Measurement
from oxidecast.streams.publication import Publication
from oxidecast.streams.stream import SOURCE, Stream

MOST_ADDRESSES = 100_000
"""Different addresses that are counted in one broadcast: 10 MB, ten times the viewers that one process is made for."""

SHORTEST = 1.0
"""Seconds below which a measurement says nothing."""

VIEWERS_AT_ONCE = 20_000
VIEWERS_A_SECOND = 20.0
"""Viewer sessions of one stream that are written: all of a full house that leaves, then two million a day. What comes
and goes faster is a script that would fill the disk."""


class OnAir:
    """A stream from its start to its end."""

    def __init__(self, stream: Stream, id: str, server_id: str) -> None:
        self.id = id
        self._stream = stream
        self._server_id = server_id
        publication = stream.publication
        assert publication is not None  # it has just begun to feed the stream
        self._protocol = publication.protocol
        self._address = kept(publication.address, "full")
        self._encoder = publication.encoder
        self._addresses: set[int] = set()
        self._highest = 0
        self._measured_at = stream.started_at
        self._bytes: dict[str, int] = {}
        self._pictures: dict[str, int] = {}
        self._discarded: tuple[Publication | None, int] = (None, 0)
        self._allowed, self._allowed_at = float(VIEWERS_AT_ONCE), stream.seconds()

    def joined(self, address: str) -> bool:
        """One more viewer; whether there were never so many."""
        if len(self._addresses) < MOST_ADDRESSES:
            self._addresses.add(hash(address))
        before, self._highest = self._highest, self._stream.max_viewers
        return self._highest > before

    def may_write_viewer(self) -> bool:
        """Whether a viewer session may be written: a token bucket."""
        now = self._stream.seconds()
        gained = max(0.0, now - self._allowed_at) * VIEWERS_A_SECOND
        self._allowed = min(float(VIEWERS_AT_ONCE), self._allowed + gained)
        self._allowed_at = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    def broadcast(self, end_reason: str | None = None) -> Broadcast:
        """As it is now, or as it was when it has ended."""
        stream, now = self._stream, datetime.fromtimestamp(self._stream.seconds(), UTC)
        if stream.publication is not None:
            self._encoder = stream.publication.encoder or self._encoder
        return Broadcast(
            id=self.id,
            stream_id=stream.id,
            protocol=self._protocol,
            publisher_address=self._address,
            encoder=self._encoder,
            started_at=datetime.fromtimestamp(stream.started_at, UTC),
            ended_at=now if end_reason is not None else None,
            end_reason=end_reason or "",
            reconnects=stream.reconnects,
            bytes_received=stream.source.bytes,
            peak_viewers=stream.max_viewers,
            unique_viewers=len(self._addresses),
            server_id=self._server_id,
            seen_at=now,
        )

    def measurements(self) -> Iterator[Measurement]:
        """Each rendition, since the last time that this was asked."""
        stream, now = self._stream, self._stream.seconds()
        lasted = now - self._measured_at
        if lasted < SHORTEST:
            return
        self._measured_at = now
        at, dropped = datetime.fromtimestamp(now, UTC), self._dropped()
        watched: dict[str, int] = {}
        for viewer in stream.viewers.values():
            # Who does not say what it watches is counted with the source.
            name = viewer.rendition if viewer.rendition in stream.renditions else SOURCE
            watched[name] = watched.get(name, 0) + 1
        for name, rendition in stream.renditions.items():
            yield Measurement(
                stream_id=stream.id,
                rendition=name,
                at=at,
                bitrate=round((rendition.bytes - self._bytes.get(name, 0)) * 8 / lasted),
                frame_rate=round((rendition.pictures - self._pictures.get(name, 0)) / lasted, 3),
                frames_dropped=dropped if name == SOURCE else 0,
                viewers=watched.get(name, 0),
            )
            self._bytes[name], self._pictures[name] = rendition.bytes, rendition.pictures

    def _dropped(self) -> int:
        """Packets of the publisher that could not be used, since the last time."""
        publication = self._stream.publication
        before, count = self._discarded
        if publication is None:
            return 0
        self._discarded = publication, publication.discarded
        return publication.discarded - (count if before is publication else 0)
