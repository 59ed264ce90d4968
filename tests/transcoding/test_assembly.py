"""One rendition of two feeds, when another child goes on with them, and when its sound becomes another."""

from itertools import groupby, pairwise
from typing import Any

import msgspec

from oxidecast.formats.framed import FramedPacket
from oxidecast.media import TICKS
from oxidecast.transcoding.assembly import Assembly
from oxidecast.transcoding.renditions import Renditions
from tests.streams.stage import AUDIO, PICTURE, SOUND, VIDEO, HubCase, Reader

FEED, SOUND_FEED, OTHER_FEED = 1, 128, 129


class AssemblyCase(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.live()
        self.assembly = Assembly(self.stream, "90p", FEED, SOUND_FEED, False)
        self.tell_tracks()
        self.viewer = Reader()
        self.send(0, 30)
        assert self.assembly.rendition is not None
        self.assembly.rendition.subscribe(self.viewer)

    def tell_tracks(self) -> None:
        self.assembly.track(msgspec.structs.replace(VIDEO, id=FEED))
        self.assembly.track(msgspec.structs.replace(AUDIO, id=SOUND_FEED))

    def send(
        self,
        first: int,
        count: int,
        sound_from: int | None = None,
        shift: int = 0,
        gop: int | None = None,
        feed: int | None = SOUND_FEED,
    ) -> None:
        """Pictures from a number on, and sound from a number on up to their end. Every `gop`th is a keyframe, or
        the first."""
        end = TICKS + (first + count) * PICTURE
        number = first * PICTURE // SOUND if sound_from is None else sound_from
        while feed is not None and TICKS + (number + 1) * SOUND <= end:
            at = TICKS + number * SOUND + shift
            self.assembly.packet(FramedPacket(feed, at, at, True, b"sound", 1024))
            number += 1
        for picture in range(first, first + count):
            at = TICKS + picture * PICTURE
            key = picture == first if gop is None else picture % gop == 0
            self.assembly.packet(FramedPacket(FEED, at, at, key, b"\0\0\0\1\x65", 0))

    def times(self, kind: bool) -> list[int]:
        return [packet.dts for packet in self.viewer.of(kind)]

    def assert_whole(self, count: int) -> None:
        """Each picture is there once."""
        self.assertEqual(self.times(True), [TICKS + number * PICTURE for number in range(count)])


class TestAnotherChild(AssemblyCase):
    def test_its_first_sound_was_there_before(self) -> None:
        self.tell_tracks()
        self.send(30, 30, sound_from=20)
        sound = self.times(False)
        self.assertEqual({after - before for before, after in pairwise(sound)}, {SOUND})
        pictures = self.times(True)
        self.assertEqual(pictures, [TICKS + number * PICTURE for number in range(60)])
        self.assertNotIn("restarted", " ".join(self.viewer.words))

    def test_its_sound_is_counted_from_another_moment(self) -> None:
        self.send(30, 30, sound_from=20, shift=SOUND // 3)
        steps = [after - before for before, after in pairwise(self.times(False))]
        self.assertTrue(all(SOUND // 2 < step < 2 * SOUND for step in steps), steps)

    def test_another_track_is_a_new_beginning(self) -> None:
        self.assembly.track(msgspec.structs.replace(VIDEO, id=FEED, width=160, extradata=b"other"))
        self.send(30, 30)
        assert self.assembly.rendition is not None
        self.assertEqual(self.assembly.rendition.tracks[0].width, 160)


class TestAnotherSound(AssemblyCase):
    """Whatever becomes of the sound, no picture is lost."""

    def tell(self, feed: int, **changes: Any) -> None:
        self.assembly.track(msgspec.structs.replace(AUDIO, id=feed, **changes))

    def tracks_of(self, kind: bool) -> list[bytes]:
        """What the packets are of, each as often as it changes."""
        return [extradata for extradata, _ in groupby(one.track.extradata for one in self.viewer.of(kind))]

    def test_another_feed_is_exchanged_at_a_keyframe(self) -> None:
        self.send(30, 40, gop=60)
        self.assembly.feeds(FEED, OTHER_FEED)
        self.tell(OTHER_FEED, extradata=b"other")
        self.send(70, 90, gop=60, feed=OTHER_FEED)
        self.assert_whole(160)
        self.assertEqual(self.viewer.words, ["restarted: its sound is another"])
        self.assertEqual(self.tracks_of(False), [b"a1", b"other"])
        place = self.viewer.seen.index(self.viewer.words[0])
        begins = self.viewer.packets[place]
        self.assertEqual((begins.keyframe, begins.dts), (True, TICKS + 120 * PICTURE))

    def test_a_feed_that_is_not_known_at_the_next_keyframe(self) -> None:
        self.assembly.feeds(FEED, OTHER_FEED)
        self.send(30, 70, gop=30, feed=OTHER_FEED)
        self.tell(OTHER_FEED, extradata=b"other")
        self.send(100, 50, gop=30, feed=OTHER_FEED)
        self.assert_whole(150)
        self.assertEqual(self.viewer.words, ["restarted: its sound is another"])
        self.assertEqual(self.tracks_of(False), [b"a1", b"other"])

    def test_another_track_of_the_feed(self) -> None:
        self.send(30, 40, gop=30)
        self.tell(SOUND_FEED, extradata=b"other")
        self.send(70, 50, gop=30)
        self.assert_whole(120)
        self.assertEqual(self.viewer.words, ["restarted: the sound changed"])

    def test_sound_that_comes_late(self) -> None:
        assembly = self.assembly = Assembly(self.stream, "60p", FEED, SOUND_FEED, False)
        assembly.track(msgspec.structs.replace(VIDEO, id=FEED))
        self.send(0, 90, gop=30, feed=None)
        assert assembly.rendition is not None
        self.viewer = Reader()
        assembly.rendition.subscribe(self.viewer)
        first = self.times(True)[0]
        self.tell(SOUND_FEED)
        self.send(90, 45, gop=30)
        at = self.times(True)
        self.assertEqual(at, list(range(first, TICKS + 135 * PICTURE, PICTURE)))
        self.assertEqual(self.tracks_of(False), [b"a1"])

    def test_the_source_begins_anew_with_other_sound(self) -> None:
        self.assembly.source_anew("it came back", (FEED, SOUND_FEED))
        # The pictures are there before the sound is told of, and wait for it: the sound that was is not it.
        self.send(30, 10, gop=30, feed=None)
        self.assertEqual(self.viewer.words, [])
        self.tell(SOUND_FEED, extradata=b"other")
        self.send(40, 20, gop=30)
        self.assert_whole(60)
        self.assertEqual(self.viewer.words, ["restarted: it came back"])
        self.assertEqual(self.tracks_of(False), [b"a1", b"other"])

    def test_a_beginning_that_is_over_before_its_sound_came(self) -> None:
        self.assembly.source_anew("it came back", (FEED, SOUND_FEED))
        self.send(30, 10, feed=None)
        self.assembly.source_anew("it came back again", (FEED, None))
        self.send(40, 20, feed=None)
        self.assert_whole(60)
        self.assertEqual(self.viewer.words, ["restarted: it came back", "restarted: it came back again"])


class Nobody:
    """The boss of renditions that never begin."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class TestFeeds(HubCase):
    """The feeds are others from a discontinuity of the source's on, which the child comes to later."""

    def test_each_discontinuity_has_its_own(self) -> None:
        self.live()
        renditions = Renditions(self.stream, Nobody())
        listed = frozenset[str]()

        def feeds() -> tuple[int, int | None]:
            return renditions.assemblies["90p"].video, renditions.assemblies["90p"].audio

        renditions.make({"90p": (1, 128)}, listed)
        for reason, audio in (("it went", None), ("it came", 129), ("it went again", None)):
            renditions.expect(reason)
            renditions.make({"90p": (1, audio)}, listed)
        self.assertEqual(feeds(), (1, 128))
        renditions.discontinuity(1)
        self.assertEqual(feeds(), (1, None))
        # A child that died answers several at once.
        renditions.discontinuity(3)
        self.assertEqual(feeds(), (1, None))
        renditions.make({"90p": (1, 128)}, listed)
        self.assertEqual(feeds(), (1, 128))
        renditions.expect("it went")
        renditions.make({"60p": (2, None)}, listed)
        renditions.discontinuity(4)
        self.assertEqual(set(renditions.assemblies), {"60p"})
