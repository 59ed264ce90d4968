"""One stream's recording: when it is on, and which file the packets go to.

The one idea: a file holds one set of tracks, because it has one initialisation section. A publisher that comes back as
it was goes on in the same file; one that comes back otherwise, and a file that has grown long enough, make another file
of the same session.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from oxidecast.database.recordings import Recording
from oxidecast.database.records import new_id
from oxidecast.formats import fmp4
from oxidecast.interfaces import (
    IFollowsStream,
    IOutputStream,
    IRendition,
    IStream,
    ISubscriber,
    ISubscription,
)
from oxidecast.media import TICKS, LocalProtocolError, Packet, Track
from oxidecast.outputs.recording.file import RecordingFile, Writing
from oxidecast.outputs.recording.fragmenter import Fragment, Fragmenter
from oxidecast.outputs.recording.repair import name_of

if TYPE_CHECKING:
    from oxidecast.outputs.recording.output import RecordingOutput

SOURCE = "source"
"""The rendition that is recorded."""

SAID = 10.0
"""Seconds between two updates of a row while its file grows."""

FAILED, LEFT_OUT = "recording:failed", "recording:tracks"
"""Notices."""


class Part:
    """One file, and its row."""

    def __init__(self, recorder: "StreamRecorder", tracks: tuple[Track, ...], first: Packet) -> None:
        stream, output = recorder.stream, recorder.output
        self._recorder = recorder
        self._said_at = 0.0
        started_at = datetime.fromtimestamp(stream.utc(first.dts), UTC)
        recording_id = new_id()
        self.fragmenter = Fragmenter(tracks)
        self.row = Recording(
            id=recording_id,
            stream_id=stream.id,
            owner_id=stream.info.owner_id,
            title=stream.info.title,
            path=name_of(stream.info, stream.name, started_at, recording_id),
            state="writing",
            started_at=started_at,
        )
        self.closed: Deferred[None] = Deferred()
        """Fires when the file is closed."""
        self.file = RecordingFile(
            Writing(output.store, self.row.path, output.room),
            tracks,
            self.fragmenter.lead,
            output.in_thread,
            output.settings.max_buffer,
            self._progress,
            self._ended,
        )

    def write(self, fragment: Fragment | None) -> None:
        if fragment is not None:
            self.file.write(fragment)

    def end(self, following: int | None = None) -> None:
        self.write(self.fragmenter.flush(following))
        self.file.close()

    def _progress(self) -> None:
        output = self._recorder.output
        output.figures.wrote(self.file.size - self.row.size)
        self.row = msgspec.structs.replace(self.row, size=self.file.size, duration=self.file.duration / TICKS)
        now = output.seconds()
        if not self._said_at or now - self._said_at >= SAID:
            self._said_at = now
            output.rows.note(self.row)

    def _ended(self, error: str) -> None:
        if self.file.size:
            self.row = msgspec.structs.replace(
                self.row,
                state="failed" if error else "complete",
                error=error,
                ended_at=self.row.started_at + timedelta(seconds=self.row.duration),
            )
            self._recorder.output.rows.note(self.row)
        self._recorder.part_ended(self, error)
        self.closed.callback(None)


@implementer(ISubscriber)
class Take:
    """A subscription to the source, from switching on to switching off."""

    def __init__(self, recorder: "StreamRecorder", rendition: IRendition) -> None:
        self._recorder = recorder
        self._rendition = rendition
        self.part: Part | None = None
        self.over = False
        self.parts = 0
        self._tracks: tuple[Track, ...] = ()
        self._ids: frozenset[int] = frozenset()
        self._subscription: ISubscription | None = None
        self._choose()

    def start(self) -> None:
        self._subscription = self._rendition.subscribe(self, self._recorder)
        if self.over:
            self._subscription.cancel()

    def stop(self) -> None:
        """Close the file."""
        self.over = True
        if self._subscription is not None:
            self._subscription.cancel()
        self._end()

    # -- ISubscriber

    def packet(self, packet: Packet) -> None:
        if self.over or packet.track.id not in self._ids:
            return
        leads = packet.keyframe and packet.track.is_video == self._tracks[0].is_video
        part = self.part
        if part is not None and leads and self._is_long(part, packet.dts):
            self._end(packet.dts)
            part = None
        if part is None:
            if not leads:
                return
            part = self._begin(packet)
            if part is None:
                return
        part.write(part.fragmenter.push(packet))

    def restarted(self, reason: str) -> None:
        part, before = self.part, self._tracks
        if part is not None:
            part.write(part.fragmenter.flush(None))
        self._choose()
        if self._tracks != before:
            self._end()

    def ended(self, reason: str) -> None:
        self.over = True
        self._end()

    # -- inside

    def _is_long(self, part: Part, dts: int) -> bool:
        return part.fragmenter.age(dts) >= self._recorder.output.settings.max_duration * TICKS

    def _choose(self) -> None:
        """The tracks that a file can hold."""
        every = self._rendition.tracks
        self._tracks = tuple(track for track in every if fmp4.carries(track.codec))
        self._ids = frozenset(track.id for track in self._tracks)
        left_out = ", ".join(track.codec.value for track in every if track not in self._tracks)
        self._recorder.stream.notice(
            LEFT_OUT, f"a recording cannot hold {left_out}, which is left out" if left_out else None
        )

    def _begin(self, first: Packet) -> Part | None:
        try:
            self.part = Part(self._recorder, self._tracks, first)
        except LocalProtocolError as error:
            self._recorder.failed(f"it cannot be recorded: {error}")
            return None
        self.parts += 1
        self._recorder.part_began(self.part)
        return self.part

    def _end(self, following: int | None = None) -> None:
        part, self.part = self.part, None
        if part is not None:
            part.end(following)


@implementer(IOutputStream, IFollowsStream)
class StreamRecorder:
    """One stream, recorded or not."""

    log = Logger()

    def __init__(self, output: "RecordingOutput", stream: IStream) -> None:
        self.output = output
        self.stream = stream
        self.parts: dict[str, Part] = {}
        """Files that are not closed yet, by the recording's id."""
        self._rendition: IRendition | None = None
        self._take: Take | None = None
        self._stopped = self._over = False
        self._error = ""

    # -- IOutputStream

    def rendition_added(self, rendition: IRendition) -> None:
        if rendition.name == SOURCE:
            self._rendition = rendition
            self._settle()

    def rendition_removed(self, name: str) -> None:
        if name == SOURCE:
            self._rendition = None
            self._settle()

    def info_changed(self) -> None:
        if not self.stream.info.recording_enabled:
            self._stopped, self._error = False, ""
            self.stream.notice(FAILED, None)
        self._settle()

    def closed(self, reason: str) -> None:
        self._over = True
        self._settle()
        self.output.look(self)

    def urls(self, rendition: str | None) -> Mapping[str, str]:
        return {}

    def stats(self) -> Mapping[str, Any]:
        part = self._take.part if self._take is not None else None
        return {
            "state": "failed" if self._error else "recording" if self._take is not None else "off",
            "recording": part.row.id if part is not None else None,
            "parts": self._take.parts if self._take is not None else 0,
            "bytes": part.row.size if part is not None else 0,
            "duration": part.row.duration if part is not None else 0.0,
        }

    # -- what parts and the output say

    def part_began(self, part: Part) -> None:
        self.parts[part.row.id] = part
        self.output.figures.active += 1
        self.log.info("{stream} is recorded: {id}", stream=self.stream.name, id=part.row.id)

    def part_ended(self, part: Part, error: str) -> None:
        del self.parts[part.row.id]
        self.output.figures.active -= 1
        if error:
            self.output.figures.failed += 1
            self.failed(error)
        if part.file.size:
            self.log.info(
                "{stream}: recording {id} closed, {duration:.1f} s",
                stream=self.stream.name,
                id=part.row.id,
                duration=part.row.duration,
            )
            path = str(self.output.store.path(part.row.path))
            self.output.services.hub.tell("recording_closed", self.stream, path)
        self.output.look(self)

    def failed(self, sentence: str) -> None:
        """No more of this stream is recorded until its owner tries again."""
        self._error = sentence
        self._stopped = True
        self.stream.notice(
            FAILED, f"the recording stopped: {sentence}; switch recording off and on to try again"
        )
        self._settle()

    async def stop(self, recording_id: str) -> None:
        """Close this file; the stream goes on without being recorded."""
        part = self.parts[recording_id]
        if self._take is not None and self._take.part is part:
            self._stopped = True
            self._settle()
        await part.closed

    @property
    def over(self) -> bool:
        """Whether nothing will come any more, and all files are closed."""
        return self._over and not self.parts

    # -- inside

    def _settle(self) -> None:
        """Record, or not, as it should be now."""
        rendition = self._rendition
        wanted = (
            rendition is not None and self.stream.info.recording_enabled and not (self._stopped or self._over)
        )
        if wanted and self._take is None and rendition is not None:
            self._take = Take(self, rendition)
            self._take.start()
        elif not wanted and self._take is not None:
            take, self._take = self._take, None
            take.stop()
