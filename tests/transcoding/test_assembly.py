"""One rendition of two feeds, when another child goes on with them."""

from itertools import pairwise

import msgspec

from oxidecast.formats.framed import FramedPacket
from oxidecast.media import TICKS
from oxidecast.transcoding.assembly import Assembly
from tests.streams.stage import AUDIO, PICTURE, SOUND, VIDEO, HubCase, Reader

FEED, SOUND_FEED = 1, 128


class TestAnotherChild(HubCase):
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

    def send(self, first: int, count: int, sound_from: int | None = None, shift: int = 0) -> None:
        """Pictures from a number on, and sound from a number on up to their end."""
        end = TICKS + (first + count) * PICTURE
        number = first * PICTURE // SOUND if sound_from is None else sound_from
        while TICKS + (number + 1) * SOUND <= end:
            at = TICKS + number * SOUND + shift
            self.assembly.packet(FramedPacket(SOUND_FEED, at, at, True, b"sound", 1024))
            number += 1
        for picture in range(first, first + count):
            at = TICKS + picture * PICTURE
            self.assembly.packet(FramedPacket(FEED, at, at, picture == first, b"\0\0\0\1\x65", 0))

    def times(self, kind: bool) -> list[int]:
        return [packet.dts for packet in self.viewer.of(kind)]

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
