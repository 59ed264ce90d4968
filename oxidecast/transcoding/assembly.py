"""One rendition of a stream, put together from two feeds of the child.

The one idea: a rendition begins, and begins anew, with a keyframe of which everything is known. What comes before its
tracks are known waits for them; what comes before a keyframe is left out. Where only the sound is another, the pictures
go on, and it is exchanged at their next keyframe.
"""

from collections.abc import Callable, Sequence

import msgspec
from twisted.logger import Logger

from oxidecast.formats.framed import FramedPacket
from oxidecast.media import TICKS, Packet, Track
from oxidecast.streams.rendition import Rendition
from oxidecast.streams.stream import Stream
from oxidecast.transcoding.interleaving import MOST_HELD, Interleaver

VIDEO_ID, AUDIO_ID = 1, 2
"""A rendition's tracks are numbered as a publisher's are."""

LONGEST_PICTURE = 5 * TICKS
"""Above, time between pictures is a gap."""


class Assembly:
    """Give it the feeds' tracks and packets as they come. `began` is called at each beginning, with the tracks."""

    log = Logger()

    def __init__(
        self,
        stream: Stream,
        name: str,
        video: int,
        audio: int | None,
        listed: bool,
        began: Callable[[Sequence[Track]], None] = lambda tracks: None,
        keyframe: Callable[[int], bool] = lambda feed: False,
    ) -> None:
        """`video` and `audio` are numbers of feeds. Without pictures `video` is 0. `keyframe` asks for one of
        a feed."""
        self.name = name
        self.video = video
        self.audio = audio
        self.rendition: Rendition | None = None
        self._stream = stream
        self._listed = listed
        self._began = began
        self._keyframe = keyframe
        self._interleaver = Interleaver(video, audio)
        self._tracks: dict[int, Track] = {}
        self._held: list[FramedPacket] = []
        self._anew = ""
        """Why the rendition has to begin anew, if it has to."""
        self._exchange = ""
        """Why it has to at the next keyframe, while its pictures go on until then."""
        self._last: dict[int, int] = {}
        self._sound_end: dict[int, int] = {}
        """By feed, where the sound ends that was taken."""
        self._duration = 0

    def feeds(self, video: int, audio: int | None) -> None:
        """It is made of these from now on, though the source goes on as it was."""
        if (video, audio) == (self.video, self.audio):
            return
        if video != self.video:
            self.anew("its pictures are others")
        self._set_feeds(video, audio)
        if self.rendition is not None and not self._anew:
            self._exchange = "its sound is another"

    def track(self, track: Track) -> None:
        """A feed's, by its number."""
        if track.id not in (self.video, self.audio):
            return
        known = self._tracks.get(track.id)
        mine = msgspec.structs.replace(track, id=VIDEO_ID if track.is_video else AUDIO_ID)
        if mine == known:
            return
        self._flush()
        self._tracks[track.id] = mine
        if self.video and not track.is_video:
            if self.rendition is not None and not self._anew:
                self._exchange = self._exchange or "the sound changed"
            elif known is not None:
                self._held = [one for one in self._held if one.track_id != track.id]
        elif known is not None or not self._held:
            self.anew(f"the {'picture' if track.is_video else 'sound'} changed")

    def packet(self, packet: FramedPacket) -> None:
        if packet.track_id not in (self.video, self.audio) or self._is_known_sound(packet):
            return
        if not self.video:
            self._take(packet)
            return
        for one in self._interleaver.packet(packet):
            self._take(one)

    def source_anew(self, reason: str, feeds: tuple[int, int | None]) -> None:
        """The source began anew: what follows is of these feeds, and the child tells of their sound once more."""
        self._flush()
        if self._held and self.video in self._tracks:
            self._begin()  # It was so short that it still waited for its sound.
        self.anew(reason)
        self._set_feeds(*feeds)
        self._tracks = {feed: track for feed, track in self._tracks.items() if track.is_video}

    def anew(self, reason: str) -> None:
        """What follows does not continue what came before."""
        self._flush()
        self._held.clear()
        self._anew = self._anew or reason

    def remove(self, reason: str) -> None:
        """The rendition is over. When the stream is, it ends as all its renditions do."""
        rendition, self.rendition = self.rendition, None
        if self._stream.state == "ended":
            return
        if rendition is not None and self._stream.renditions.get(self.name) is rendition:
            self._stream.remove_rendition(self.name, reason)

    # -- inside

    def _is_known_sound(self, packet: FramedPacket) -> bool:
        """Whether most of it was there before: a child that takes over begins earlier than where the last one was."""
        track = self._tracks.get(packet.track_id)
        if track is None or track.is_video:
            return False
        lasts = packet.samples * TICKS // track.sample_rate
        if packet.dts + lasts // 2 < self._sound_end.get(packet.track_id, 0):
            return True
        self._sound_end[packet.track_id] = packet.dts + lasts
        return False

    def _set_feeds(self, video: int, audio: int | None) -> None:
        self._flush()
        self.video, self.audio = video, audio
        self._interleaver = Interleaver(video, audio)
        self._held = [one for one in self._held if one.track_id in (video, audio)]
        self._tracks = {feed: track for feed, track in self._tracks.items() if feed in (video, audio)}

    def _flush(self) -> None:
        for one in self._interleaver.flush():
            self._take(one)

    def _take(self, packet: FramedPacket) -> None:
        if self.rendition is not None and not self._anew:
            if not (self._exchange and self._is_beginning(packet) and self._complete()):
                self._push(packet)
                return
            self._anew = self._exchange
        if not self._held and not self._is_beginning(packet):
            return
        self._held.append(packet)
        # Pictures are not kept waiting for sound that does not come.
        waited = packet.dts - self._held[0].dts
        if self._complete() or (waited >= MOST_HELD and self.video in self._tracks):
            self._begin()

    def _is_beginning(self, packet: FramedPacket) -> bool:
        return packet.keyframe and packet.track_id == (self.video or self.audio)

    def _complete(self) -> bool:
        return all(feed in self._tracks for feed in (self.video, self.audio) if feed)

    def _begin(self) -> None:
        held, self._held = self._held, []
        tracks = tuple(sorted(self._tracks.values(), key=lambda track: track.id))
        reason, self._anew, self._exchange = self._anew, "", ""
        rate = tracks[0].frame_rate
        self._duration = round(TICKS / rate) if rate else TICKS // 30
        if self.rendition is None:
            self.rendition = self._stream.add_rendition(self.name, tracks, self._listed)
            if self.video:
                self.rendition.on_keyframe_wanted = self._ask
        else:
            self.rendition.restart(tracks, reason)
        self._began(tracks)
        for packet in held:
            self._push(packet)

    def _ask(self) -> bool:
        return self._keyframe(self.video)

    def _push(self, packet: FramedPacket) -> None:
        track = self._tracks.get(packet.track_id)
        if self.rendition is None or track is None or track not in self.rendition.tracks:
            return
        last = self._last.get(track.id)
        # Another child begins a little before its first picture.
        dts = packet.dts if last is None else max(packet.dts, last + 1)
        if track.is_video:
            if last is not None and 0 < dts - last < LONGEST_PICTURE:
                self._duration = dts - last
            duration = self._duration
        else:
            duration = max(1, packet.samples * TICKS // track.sample_rate)
        self._last[track.id] = dts
        pts = packet.pts if track.is_video else dts
        self.rendition.push(Packet(track, dts, pts, duration, packet.keyframe, packet.payload))
