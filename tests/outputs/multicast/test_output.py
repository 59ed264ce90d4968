"""Which renditions are sent where, on a host of their own."""

import io
from collections import Counter
from itertools import pairwise
from typing import Any

import av
import msgspec
from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from oxidecast.database.errors import DatabaseUnavailable
from oxidecast.formats.fec import FECDecoder, FECPacket
from oxidecast.formats.rtp import RTPPacket
from oxidecast.interfaces import (
    IFollowsStream,
    IMeasured,
    IOutput,
    IOutputStream,
    IStreamChoices,
    Refused,
)
from oxidecast.media import TICKS, Codec, Track
from oxidecast.outputs.multicast.group import DRAIN
from oxidecast.outputs.multicast.output import RETRY
from oxidecast.outputs.multicast.settings import MulticastChoices
from tests.e2e.netns import Host
from tests.e2e.ts import Stream
from tests.formats.material import stream as material
from tests.outputs.multicast.stage import AUDIO, GROUP, PORT, VIDEO, MulticastCase
from tests.streams.stage import PICTURE, SOUND, Encoder, info

AV1 = Track(id=1, codec=Codec.AV1, extradata=b"", codec_string="av01.0.00M.08", width=64, height=64)
OPUS = Track(id=2, codec=Codec.OPUS, extradata=b"", codec_string="Opus", sample_rate=48_000, channels=2)


class TestSending(MulticastCase):
    async def test_it_provides_what_it_says(self) -> None:
        output = await self.begin()
        await self.live()
        for interface in (IOutput, IStreamChoices, IMeasured):
            verifyObject(interface, output)
        for interface in (IOutputStream, IFollowsStream):
            verifyObject(interface, self.sent())

    async def test_a_live_stream_is_on_the_wire(self) -> None:
        await self.begin()
        receiver = self.receiver()
        await self.live(seconds=3)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])
        self.assertGreater(stream.packets[0x100], 60)
        self.assertGreater(stream.packets[0x101], 20)
        self.assertEqual(self.stream.outputs[0].urls(), {"multicast": f"udp://@{GROUP}:{PORT}"})

    async def test_every_datagram_is_full(self) -> None:
        await self.begin(packet_size=1000)
        receiver = self.receiver()
        await self.live(seconds=2)
        self.assertEqual({len(one.data) for one in receiver.read()}, {5 * 188})

    async def test_the_end_sends_what_waits_and_then_nothing(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = await self.live()
        at = encoder._picture
        with self.host.entered():
            encoder.publication.packet(1, at, at, True, b"\0\1\0\0\x65" + bytes(65_535))
        self.assertGreater(self.sent().groups["source"].flow.backlog, 0)  # type: ignore[union-attr]
        receiver.read()
        with self.host.entered():
            self.stream.end("the end")
        self.turn(DRAIN)
        self.assertGreater(len(receiver.read()), 0)
        self.turn(1)
        self.assertEqual(receiver.read(), [])
        self.assertEqual(self.multicast.in_use(), [])

    async def test_a_stream_that_starts_again_at_once_has_its_group_alone(self) -> None:
        await self.begin()
        encoder = await self.live()
        self.send(encoder, 0.5)
        with self.host.entered():
            self.stream.end("the end")
        receiver = self.receiver()
        await self.live(seconds=2)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])

    async def test_receivers_that_stay_tuned_see_a_new_table_and_no_broken_counter(self) -> None:
        await self.begin()
        receiver = self.receiver()
        await self.live(seconds=2)
        with self.host.entered():
            self.stream.end("the end")
        self.turn(DRAIN + 1)
        await self.live(material(Codec.HEVC)[0], seconds=2)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])
        first, second = dict.fromkeys(stream.programmes)
        self.assertEqual((second[0] - first[0]) % 32, 1)
        self.assertEqual((first[1], second[1]), ((0x1B, 0x0F), (0x24,)))

    async def test_new_tables_come_before_what_they_tell_and_after_all_else(self) -> None:
        for phase in range(4):
            with self.subTest(phase=phase):
                await self.begin()
                receiver = self.receiver()
                first = await self.live(seconds=1 + phase / 40)
                at = first._picture
                with self.host.entered():
                    # A frame that takes its time to leave.
                    first.publication.packet(1, at, at, False, b"\0\0\xff\xfb\x41" + bytes(65_530))
                    second = Encoder(self).connect(material(Codec.HEVC)[0], expect=(True, False))
                    self.send(second, 1)
                stream = Stream((one.at, one.data) for one in receiver.read())
                self.assertEqual(stream.faults, [])
                told = [
                    (what, value)
                    for what, value in stream.order
                    if what == "table" or (what == "frame" and value == 0x100)
                ]
                switch = next(n for n, one in enumerate(told) if one[0] == "table" and one[1][1][0] == 0x24)
                self.assertTrue(all(one[1][1][0] == 0x1B for one in told[:switch] if one[0] == "table"))
                # The newcomer's first frame says that its time is another.
                broken = [n for n, (what, _) in enumerate(stream.order) if what == "broken"]
                table = next(
                    n for n, one in enumerate(stream.order) if one[0] == "table" and one[1][1][0] == 0x24
                )
                self.assertGreater(broken[-1], table)
                self.stop(self.multicast)
                self.hub._open = True
                self.host.remove()
                self.host = Host("a")

    async def test_a_group_begins_at_a_keyframe_that_is_fresh(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = Encoder(self).connect(VIDEO, AUDIO)
        with self.host.entered():
            encoder.send(75)  # two and a half seconds, before the database has given a number
            await self.settled()
            self.turn(0.2)
            self.assertEqual(receiver.read(), [], "what is old is not sent")
            self.send(encoder, 2)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual((stream.faults, stream.starts[0][1]), ([], 0x100))

    async def test_a_publisher_that_comes_back_is_told_as_a_discontinuity(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = await self.live()
        with self.host.entered():
            encoder.publication.close("gone")
            self.turn(2)
            second = Encoder(self).connect(VIDEO, AUDIO)
            self.send(second, 2)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])
        # Once when the group began, once now.
        self.assertEqual((stream.broken[0x100], stream.broken[0x101], stream.broken[0x1001]), (2, 2, 2))


class TestContents(MulticastCase):
    """Whatever transport streams carry comes out of a demuxer as it went in."""

    async def check(self, *codecs: Codec, **settings: Any) -> None:
        await self.begin(**settings)
        receiver = self.receiver()
        parts = [material(codec, frames=60) for codec in codecs]
        tracks = [msgspec.structs.replace(track, id=n) for n, (track, _) in enumerate(parts, 1)]
        packets = sorted(
            (packet.dts, track.id, packet)
            for track, (_, found) in zip(tracks, parts, strict=True)
            for packet in found
        )
        with self.host.entered():
            encoder = Encoder(self).connect(*tracks)
            sent: dict[int, list[bytes]] = {track.id: [] for track in tracks}
            for round_ in range(2):  # the first is over when the database has answered
                begin = round_ * 3 * TICKS
                for dts, number, packet in packets:
                    due = 1_800_000_000.0 + (begin + dts) / TICKS
                    self.turn(max(0.0, due - self.clock.seconds()))
                    encoder.publication.packet(
                        number, begin + dts, begin + packet.pts, packet.keyframe, packet.payload, 0
                    )
                    if round_:
                        sent[number].append(packet.payload)
                    else:
                        await self.settled()
                if not round_:
                    self.turn(1)
                    receiver.read()
            self.turn(1)
        data = b"".join(one.data for one in receiver.read())
        with av.open(io.BytesIO(data), format="mpegts") as container:
            names = [stream.codec_context.name for stream in container.streams]
            found = Counter(packet.stream.index for packet in container.demux() if packet.size)
        expected = {
            Codec.H264: "h264",
            Codec.HEVC: "hevc",
            Codec.MP3: "mp3float",
            Codec.AC3: "ac3",
            Codec.OPUS: "opus",
        }
        self.assertEqual(names, [expected.get(codec, codec.value) for codec in codecs])
        for index, track in enumerate(tracks):
            # The last frames of sound may wait for one more to share a packet with.
            self.assertLessEqual(
                len(sent[track.id]) - found[index],
                0 if track.is_video else 3,
            )

    async def test_h264_and_aac(self) -> None:
        await self.check(Codec.H264, Codec.AAC)

    async def test_hevc_and_ac3(self) -> None:
        await self.check(Codec.HEVC, Codec.AC3)

    async def test_h264_and_mp3(self) -> None:
        await self.check(Codec.H264, Codec.MP3)

    async def test_h264_and_opus(self) -> None:
        await self.check(Codec.H264, Codec.OPUS, opus=True)

    async def test_sound_alone(self) -> None:
        await self.check(Codec.AAC)


class TestWire(MulticastCase):
    async def test_how_datagrams_travel(self) -> None:
        await self.begin(ttl=5, dscp=46)
        receiver = self.receiver()
        await self.live()
        self.assertEqual({(one.ttl, one.dscp) for one in receiver.read()}, {(5, 46)})

    async def test_several_interfaces_at_once(self) -> None:
        await self.begin(interface="127.0.0.1, 127.0.0.2")
        receiver = self.receiver()
        await self.live()
        received = receiver.read()
        by_source = {
            source: [one.data for one in received if one.source == source]
            for source in ("127.0.0.1", "127.0.0.2")
        }
        self.assertGreater(len(by_source["127.0.0.1"]), 20)
        self.assertEqual(by_source["127.0.0.1"], by_source["127.0.0.2"])

    async def test_rtp_with_error_correction(self) -> None:
        await self.begin(encapsulation="rtp", fec="4x4")
        receivers = [self.receiver(port=PORT + offset) for offset in (0, 2, 4)]
        await self.live(seconds=3)
        media, columns, rows = ([one.data for one in receiver.read()] for receiver in receivers)
        numbers = [RTPPacket.parse(data).sequence for data in media]
        self.assertTrue(all(b - a & 0xFFFF == 1 for a, b in pairwise(numbers)))
        decoder = FECDecoder(16)
        restored: list[bytes] = []
        for number, data in enumerate(media):
            if number % 16 not in (2, 7):
                restored += decoder.media(data)
            if number % 16 == 15:
                for fec in [*columns, *rows]:
                    if FECPacket.parse(fec).base in {
                        numbers[n] for n in range(max(0, number - 40), number + 1)
                    }:
                        restored += decoder.fec(fec)
        self.assertGreater(decoder.recovered, 5)
        self.assertEqual(decoder.refused, 0)
        self.assertEqual(restored[: len(media) - 48], media[: len(media) - 48])

    async def test_frames_are_left_out_whole_when_the_constant_rate_is_too_low(self) -> None:
        await self.begin(cbr=True, rate=320_000)
        receiver = self.receiver()
        encoder = await self.live()
        with self.host.entered():
            for _ in range(60):
                at = encoder._picture
                encoder.publication.packet(1, at + 1, at + 1, False, b"\0\0\x20\0\x41" + bytes(8191))
                encoder.send(1)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])
        self.assertIn("constant rate of 320000 bit/s", self.stream.notices["multicast:source:overrun"])
        self.assertGreater(self.sent().stats()["source"]["pacing"]["overruns"], 0)

    async def test_sound_fits_the_buffers_of_the_strictest_receiver(self) -> None:
        """H.222.0, 2.4.2: what arrives fills a buffer of 512 bytes, which empties at 2 Mbit/s into one of 3584, from
        which each frame is taken when it is due."""
        for rate, kilobits in ((2_000_000, 64), (5_000_000, 128), (8_000_000, 192)):
            with self.subTest(rate=rate, kilobits=kilobits):
                await self.begin(cbr=True, rate=rate)
                receiver = self.receiver()
                encoder = await self.live()
                receiver.read()
                size = kilobits * 1000 // 8 * 1024 // 48_000
                picture = bytes((0, 0, *(rate // 700).to_bytes(2, "big"), 0x41)).ljust(4 + rate // 700, b"\0")
                with self.host.entered():
                    began = self.clock.seconds()
                    for number in range(300):
                        at = encoder._picture + number * SOUND
                        self.turn(max(0.0, began + number * SOUND / TICKS - self.clock.seconds()))
                        encoder.publication.packet(2, at, at, True, bytes(size - 7), 1024)
                        encoder.publication.packet(1, at, at, number % 30 == 0, picture)
                    self.turn(1)
                stream = Stream((one.at, one.data) for one in receiver.read())
                self.assertEqual(stream.faults, [])
                first, main = stream.sound_buffers(0x101, rate)
                self.assertLessEqual(first, 512)
                self.assertLessEqual(main, 3584)
                self.stop(self.multicast)
                self.hub._open = True
                self.host.remove()
                self.host = Host("a")

    async def test_what_a_stalled_publisher_sends_in_the_end_is_left_out(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = await self.live(seconds=2)
        receiver.read()
        with self.host.entered():
            self.turn(5)
            # Five seconds at once, as a connection brings them that hung.
            for _ in range(150):
                at = encoder._picture
                encoder.publication.packet(
                    1, at, at, encoder._count % 30 == 0, b"\0\0\x20\0\x41" + bytes(8191)
                )
                encoder._picture += PICTURE
                encoder._count += 1
            encoder._sound = encoder._picture
            self.turn(0.2)
            flood = receiver.read()
            self.send(encoder, 3)
        self.assertLess(sum(len(one.data) for one in flood), 80 * 8192)
        self.assertGreater(self.sent().stats()["source"]["late_frames"], 100)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertEqual(stream.faults, [])
        self.assertGreater(len(stream.starts), 1, "and then it goes on")


class TestNotCarried(MulticastCase):
    async def test_pictures_that_transport_streams_do_not_know(self) -> None:
        await self.begin()
        receiver = self.receiver()
        await self.live(AV1, AUDIO)
        self.assertEqual(receiver.read(), [])
        self.assertEqual(self.sent().urls(None), {})
        self.assertEqual(self.sent().stats()["source"]["state"], "not_carried")
        self.assertEqual(
            list(self.stream.notices.values()),
            ["multicast of source is not sent: MPEG-TS cannot carry av1"],
        )

    async def test_another_rendition_stands_in(self) -> None:
        await self.begin()
        receiver = self.receiver()
        await self.live(AV1, AUDIO)
        with self.host.entered():
            rendition = self.stream.add_rendition("720p", (VIDEO, AUDIO))
            await self.settled()
            self.feed(rendition)
        stats = self.sent().stats()
        self.assertEqual((stats["source"]["source"], stats["720p"]["source"]), ("720p", "720p"))
        self.assertGreater(Stream((o.at, o.data) for o in receiver.read()).packets[0x100], 10)
        with self.host.entered():
            self.stream.remove_rendition("720p", "it is over")
        self.assertEqual(self.sent().stats().keys(), {"source"})
        self.assertEqual(self.sent().stats()["source"]["state"], "not_carried")

    async def test_a_quality_that_cannot_be_carried_is_not_sent_and_no_other_for_it(self) -> None:
        await self.begin()
        await self.live(VIDEO, AUDIO)
        with self.host.entered():
            self.stream.add_rendition("av1", (AV1, AUDIO))
            self.stream.add_rendition("720p", (VIDEO, AUDIO))
            await self.settled()
        stats = self.sent().stats()
        self.assertEqual(
            {name: one["state"] == "not_carried" for name, one in stats.items()},
            {"source": False, "av1": True, "720p": False},
        )
        self.assertEqual(self.sent().urls("av1"), {})
        self.assertEqual(
            list(self.stream.notices.values()), ["multicast of av1 is not sent: MPEG-TS cannot carry av1"]
        )

    async def test_hevc_is_carried(self) -> None:
        await self.begin()
        receiver = self.receiver()
        await self.live(VIDEO, AUDIO)
        track, packets = material(Codec.HEVC, frames=30)
        with self.host.entered():
            rendition = self.stream.add_rendition("720p", (track, AUDIO))
            await self.settled()
            for packet in packets:
                rendition.push(msgspec.structs.replace(packet, track=track))
        self.assertEqual((self.sent().stats()["720p"]["state"], self.stream.notices), ("sending", {}))
        self.assertIsNotNone(receiver)

    def feed(self, rendition: Any) -> None:
        for packet in material(Codec.H264, frames=30)[1]:
            rendition.push(msgspec.structs.replace(packet, track=VIDEO))
            self.turn(0.035)

    async def test_opus_is_left_out_unless_it_is_wanted(self) -> None:
        await self.begin()
        await self.live(VIDEO, OPUS)
        self.assertEqual(
            list(self.stream.notices.values()),
            ["multicast of source leaves something out: Opus is sent only where multicast.opus is set"],
        )
        self.assertEqual(self.sent().groups["source"].tracks, (VIDEO,))

    async def test_opus_by_setting(self) -> None:
        await self.begin(opus=True)
        await self.live(VIDEO, OPUS)
        self.assertEqual((self.stream.notices, len(self.sent().groups["source"].tracks)), ({}, 2))

    async def test_a_frame_of_sound_that_no_transport_stream_can_say_is_left_out_alone(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = await self.live()
        with self.host.entered():
            at = encoder._sound
            encoder.publication.packet(2, at, at, True, bytes(9000), 1024)
            encoder._sound += SOUND
            self.send(encoder, 0.2)
            receiver.read()
            self.send(encoder, 1)
        stream = Stream((one.at, one.data) for one in receiver.read())
        self.assertGreater(stream.packets[0x101], 5)
        self.assertEqual(self.running.faults, 0)
        self.assertGreater(self.sent().stats()["source"]["unfit_frames"], 0)

    async def test_sound_that_transport_streams_have_no_words_for(self) -> None:
        await self.begin()
        await self.live(VIDEO, msgspec.structs.replace(AUDIO, extradata=b"\x11\xe0"))
        self.assertEqual(
            list(self.stream.notices.values()),
            ["multicast of source leaves something out: ADTS cannot carry channel configuration 12"],
        )
        self.assertEqual(self.sent().groups["source"].tracks, (VIDEO,))

    async def test_a_track_whose_configuration_is_no_good(self) -> None:
        await self.begin()
        await self.live(msgspec.structs.replace(VIDEO, extradata=b"v1"), AUDIO)
        self.assertIn("avcC has 2 bytes", self.stream.notices["multicast:source:tracks"])
        self.assertEqual((self.running.state, self.running.faults), ("running", 0))


class TestChoices(MulticastCase):
    def choose(self, **choices: Any) -> None:
        known = self.stream.info
        with self.host.entered():
            self.stream.change_info(msgspec.structs.replace(known, outputs={"multicast": choices}))

    async def test_an_owner_switches_it_off_and_on(self) -> None:
        await self.begin()
        receiver = self.receiver()
        encoder = await self.live()
        self.choose(enabled=False)
        self.assertEqual(self.sent().urls(None), {})
        receiver.read()
        self.send(encoder, 1)
        self.assertEqual(receiver.read(), [])
        self.choose()
        self.send(encoder, 3)
        self.assertGreater(len(receiver.read()), 10)

    async def test_a_rendition_is_switched_off_alone(self) -> None:
        await self.begin()
        await self.live()
        with self.host.entered():
            self.stream.add_rendition("360p", (VIDEO, AUDIO))
            await self.settled()
        self.assertEqual(set(self.sent().groups), {"source", "360p"})
        self.choose(renditions={"source": False})
        self.assertEqual(set(self.sent().groups), {"360p"})

    async def test_a_stream_that_becomes_private_is_sent_no_more(self) -> None:
        await self.begin()
        await self.live()
        private = msgspec.structs.replace(self.stream.info, is_private=True)
        with self.host.entered():
            self.stream.change_info(private)
        self.assertEqual((self.sent().groups, self.multicast.urls(private)), ({}, {}))

    async def test_a_private_stream_needs_its_owners_word(self) -> None:
        output = await self.begin()
        private = info("show", is_private=True)
        refusal = self.assertRaises(Refused, output.check_choices, private, MulticastChoices(enabled=True))
        self.assertEqual(refusal.code, "not_confirmed")
        output.check_choices(private, MulticastChoices(enabled=True, open_to_everybody=True))
        output.check_choices(private, MulticastChoices(enabled=False))
        output.check_choices(info("show"), MulticastChoices(enabled=True))

    async def test_what_another_version_wrote_is_sent_by_nobody(self) -> None:
        await self.begin()
        await self.live()
        self.choose(enabled="perhaps")
        self.assertEqual(self.sent().groups, {})


class TestNumbers(MulticastCase):
    async def test_renditions_are_numbered_as_they_come(self) -> None:
        await self.begin()
        await self.live()
        await self.live(key="key-of-other")
        self.assertEqual(self.sent("other").urls(None), {"multicast": "udp://@239.255.0.2:30001"})
        self.assertEqual(self.multicast.urls(info("other")), {"multicast": "udp://@239.255.0.2:30001"})

    async def test_a_number_is_for_good(self) -> None:
        await self.begin()
        await self.live()
        await self.live(key="key-of-other")
        self.stop(self.multicast)
        self.hub._open = True
        self.restart()
        await self.live(key="key-of-other")
        self.assertEqual(self.sent("other").urls(None), {"multicast": "udp://@239.255.0.2:30001"})

    async def test_who_switches_it_off_is_told_no_more_that_it_cannot_be_sent(self) -> None:
        await self.begin(port_range=(30_000, 30_000))
        await self.live()
        with self.host.entered():
            Encoder(self, key="key-of-other").connect(VIDEO, AUDIO).send(30)
            other = self.hub.find("other")
            assert other is not None
            while not other.notices:
                await deferLater(reactor, 0.005)
            other.change_info(msgspec.structs.replace(other.info, outputs={"multicast": {"enabled": False}}))
        self.assertEqual(other.notices, {})

    async def test_when_all_are_given_people_are_told(self) -> None:
        await self.begin(port_range=(30_000, 30_000))
        await self.live()
        with self.host.entered():
            Encoder(self, key="key-of-other").connect(VIDEO, AUDIO).send(30)
            while not self.hub.find("other").notices:  # type: ignore[union-attr]
                await deferLater(reactor, 0.005)
        other = self.hub.find("other")
        assert other is not None
        self.assertEqual(
            list(other.notices.values()),
            ["multicast of source: all 1 multicast groups have a rendition: widen multicast.port_range"],
        )

    async def test_the_number_of_a_stream_that_is_gone_is_given_again(self) -> None:
        await self.begin(port_range=(30_000, 30_000))
        await self.live()
        # Neither stream is in the database, so that of the one that is over counts as gone.
        with self.host.entered():
            self.stream.end("over")
            self.turn(DRAIN + 0.1)
        await self.live(key="key-of-other")
        self.assertEqual(self.sent("other").urls(None), {"multicast": f"udp://@{GROUP}:{PORT}"})
        self.assertEqual(self.multicast.urls(info("show")), {})

    async def test_addresses_of_announcements_are_not_given(self) -> None:
        await self.begin(base_address="239.255.255.254")
        await self.live()
        with self.host.entered():
            Encoder(self, key="key-of-other").connect(VIDEO, AUDIO).send(30)
            while not self.hub.find("other").notices:  # type: ignore[union-attr]
                await deferLater(reactor, 0.005)
        self.assertEqual(self.sent().urls(None), {"multicast": "udp://@239.255.255.254:30000"})

    async def test_without_the_database_a_new_stream_waits_for_it(self) -> None:
        await self.begin()
        real = self.database.transaction
        self.database.transaction = lambda *_: fail(DatabaseUnavailable("away"))  # type: ignore[method-assign]
        with self.host.entered():
            encoder = Encoder(self).connect(VIDEO, AUDIO)
            encoder.send(30)
            await deferLater(reactor, 0)
            self.assertIn("the database is away", self.stream.notices["multicast:source:number"])
            self.database.transaction = real  # type: ignore[method-assign]
            self.turn(RETRY)
            await self.settled()
            self.send(encoder, 2)
        self.assertEqual((self.stream.notices, list(self.sent().groups)), ({}, ["source"]))
