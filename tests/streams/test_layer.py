"""Layers: sizes that a publisher sends beside the source become renditions, in the source's time."""

from itertools import pairwise

from zope.interface.verify import verifyObject

from oxidecast.interfaces import ILayer
from oxidecast.media import Codec, Track
from oxidecast.streams.layer import HOLD, MOST_HELD, SAME, SILENT
from tests.streams.stage import AUDIO, PICTURE, Encoder, HubCase, Reader

SMALL = Track(id=1, codec=Codec.H264, extradata=b"s1", codec_string="avc1.64001e", width=320, height=180)
SMALLER = Track(id=1, codec=Codec.H264, extradata=b"s2", codec_string="avc1.64001e", width=160, height=90)


class TestLayer(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.encoder = Encoder(self).start()
        self.layer = self.encoder.publication.layer("layer.2")
        self.layer.track(SMALL)
        self.read, self.source = Reader(), Reader()
        self.at = 0
        self.sent = 0

    def send(self, pictures: int, off: int = 0, early: bool = False, layer: bool = True) -> None:
        """Pictures of both sizes, and sound. `off` is how far their times are apart."""
        for _ in range(pictures):
            keyframe = self.sent % 30 == 0
            if early and layer:
                self.layer.packet(self.at + off, self.at + off, keyframe, b"small")
            self.encoder.send(1)
            if not early and layer:
                self.layer.packet(self.at + off, self.at + off, keyframe, b"small")
            self.at += PICTURE
            self.sent += 1
            if not self.source.seen and self.stream.renditions:
                self.stream.source.subscribe(self.source)
        found = self.stream.renditions.get("layer.2")
        if found is not None and not self.read.seen:
            found.subscribe(self.read)

    def test_it_is_a_rendition_with_the_streams_sound(self) -> None:
        verifyObject(ILayer, self.layer)
        self.send(40, off=300)
        rendition = self.stream.renditions["layer.2"]
        self.assertEqual(rendition.tracks, (SMALL, AUDIO))
        self.assertEqual([one.name for one in self.stream.listed()], ["source", "layer.2"])
        self.assertGreater(len(self.read.of(False)), 10)
        pictures = self.read.of(True)
        self.assertTrue(pictures[0].keyframe)
        self.assertEqual({after.dts - before.dts for before, after in pairwise(pictures)}, {PICTURE})
        self.assertEqual({packet.duration for packet in pictures}, {PICTURE})

    def test_its_pictures_have_the_sources_times(self) -> None:
        for off, early in ((300, True), (-300, True), (SAME, False), (-SAME, False)):
            with self.subTest(off=off, early=early):
                self.send(30 - self.sent % 30 + 31, off, early)
                mine = {packet.pts for packet in self.read.of(True)}
                source = {packet.pts: packet.keyframe for packet in self.source.of(True)}
                self.assertEqual(mine - source.keys(), set())
                for packet in self.read.of(True):
                    self.assertEqual(packet.keyframe, source[packet.pts])

    def test_it_comes_no_earlier_than_the_source(self) -> None:
        self.send(31)
        self.layer.packet(self.at, self.at, False, b"small")
        before = len(self.read.of(True))
        self.encoder.send(1)
        self.assertEqual(len(self.read.of(True)), before + 1)

    def test_without_the_source_it_goes_on_by_itself_and_within_bounds(self) -> None:
        self.send(40)
        before = len(self.read.of(True))
        for number in range(30):
            at = self.at + number * PICTURE
            self.layer.packet(at, at, False, b"small")
        late = self.read.of(True)[before:]
        self.assertLess(30 - len(late), HOLD // PICTURE + 2)
        self.assertEqual({after.dts - before.dts for before, after in pairwise(late)}, {PICTURE})
        for _ in range(2 * MOST_HELD):
            self.layer.packet(at + 1, at + 1, False, b"small")
        self.assertGreater(len(self.read.of(True)) - before, MOST_HELD)
        times = [packet.dts for packet in self.read.of(True)]
        self.assertEqual(times, sorted(set(times)))

    def test_another_size_begins_with_a_keyframe(self) -> None:
        self.send(31)
        self.layer.track(SMALLER)
        self.send(40)
        rendition = self.stream.renditions["layer.2"]
        self.assertEqual(rendition.tracks, (SMALLER, AUDIO))
        self.assertIn("restarted: its tracks changed", self.read.seen)
        at = self.read.seen.index("restarted: its tracks changed")
        self.assertTrue(next(one for one in self.read.seen[at:] if not isinstance(one, str)).keyframe)  # type: ignore[union-attr]

    def test_what_falls_silent_is_no_rendition_until_it_comes_again(self) -> None:
        self.send(31)
        self.send(SILENT // PICTURE + 2, layer=False)
        self.assertEqual([one.name for one in self.stream.listed()], ["source"])
        self.assertEqual(self.read.seen[-1], "ended: its publisher does not send it any more")
        self.sent = 5
        self.send(20)
        self.assertNotIn("layer.2", self.stream.renditions, "not without a keyframe")
        self.send(30)
        self.assertIn("layer.2", self.stream.renditions)

    def test_it_ends_with_its_publication(self) -> None:
        self.send(31)
        self.encoder.publication.close("gone")
        self.assertEqual(list(self.stream.renditions), ["source"])
        self.layer.packet(self.at, self.at, True, b"small")
        self.assertEqual(list(self.stream.renditions), ["source"])

    def test_a_takeover_brings_its_own(self) -> None:
        self.send(31)
        second = Encoder(self).start()
        layer = second.publication.layer("layer.2")
        layer.track(SMALLER)
        second.send(2)
        layer.packet(PICTURE, PICTURE, True, b"smaller")
        self.assertEqual(self.stream.renditions["layer.2"].tracks, (SMALLER, AUDIO))

    def test_it_ends_with_the_stream(self) -> None:
        self.send(31)
        self.stream.end("over")
        self.assertEqual(self.read.seen[-1], "ended: over")

    def test_before_the_stream_is_live_it_is_nothing(self) -> None:
        other = Encoder(self, key="key-of-other").connect()
        layer = other.publication.layer("layer.2")
        layer.track(SMALL)
        layer.packet(0, 0, True, b"small")
        self.assertIsNone(layer.rendition)  # type: ignore[attr-defined]
