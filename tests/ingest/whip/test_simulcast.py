"""Several sizes of one picture by WHIP: which is the source, which are renditions, and what is said back to each."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oxidecast.formats import rtcp
from oxidecast.formats.rtp_h264 import packetize
from oxidecast.formats.rtp_runs import MARKER, PADDING, PLAIN
from oxidecast.formats.sdp_offer import parse
from oxidecast.ingest.whip import negotiation
from oxidecast.ingest.whip.negotiation import LONGEST_RID, MAX_LAYERS, MID, REPAIRED_RID, RID
from oxidecast.ingest.whip.publisher import WHIPPublisher
from oxidecast.ingest.whip.simulcast import PATIENCE, STEADY
from oxidecast.media import TICKS, Codec
from oxidecast.media.h264 import parse_configuration
from tests.formats.material import stream as material
from tests.ingest.whip.stage import LIMIT, RESENT, VIDEO, WHIPCase, whip_offer
from tests.outputs.webrtc.stage import ADDRESS
from tests.streams.stage import PICTURE

SIZES = {"l": 64, "m": 96, "h": 128}
"""By rid, in the order in which many applications list them."""
SECOND = 30

LINES = (
    f"a=extmap:4 {MID}\r\na=extmap:10 {RID}\r\na=extmap:11 {REPAIRED_RID}\r\n"
    "a=rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h\r\na=rtcp-mux\r\n"
)


def simulcast_offer(lines: str = LINES) -> str:
    """Of the pictures; the sound's medium is as it was."""
    video, audio = whip_offer().split("m=audio")
    return f"{video.replace('a=rtcp-mux' + chr(13) + chr(10), lines)}m=audio{audio}"


class TestNegotiation(WHIPCase):
    def received(self, lines: str) -> Any:
        offer = parse(simulcast_offer(lines))
        negotiation.check(offer)
        return negotiation.agree(offer).video

    def test_layers_are_taken_in_their_order(self) -> None:
        video = self.received(LINES)
        self.assertEqual(video.layers, ("l", "m", "h"))
        self.assertEqual(
            {name for _, name in video.extensions}, {negotiation.TRANSPORT_WIDE, MID, RID, REPAIRED_RID}
        )

    def test_the_answer(self) -> None:
        self.join(lines=f"{whip_offer()}>{simulcast_offer()}")
        for line in (
            "a=rid:l recv",
            "a=rid:m recv",
            "a=rid:h recv",
            "a=simulcast:recv l;m;h",
            f"a=extmap:10 {RID}",
        ):
            self.assertEqual(self.answer.count(f"{line}\r\n"), 1, line)

    def test_what_of_an_offer_is_passed_over(self) -> None:
        long = "x" * (LONGEST_RID + 1)
        many = [f"n{number}" for number in range(MAX_LAYERS + 2)]
        for old, new, layers in (
            ("l;m;h", "l,x;~m;h;nothing;l", ("l", "m", "h")),
            ("simulcast:send l;m;h", "simulcast:recv l send m;h", ("m", "h")),
            ("simulcast:send l;m;h", "simulcast:send", ()),
            ("simulcast:send l;m;h", "x:y", ()),
            ("rid:m send", "rid:m recv", ("l", "h")),
            ("rid:m send", "rid:m send pt=96,97;max-width=640", ("l", "h")),
            ("rid:m send", "rid:m send max-width=640;pt=102", ("l", "m", "h")),
            ("rid:m send", "rid:m <send>", ("l", "h")),
            (RID, "urn:x", ()),
            ("extmap:10", "extmap:15", ()),
            (
                "rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h",
                "\r\n".join([f"rid:{long} send\r\na=simulcast:send {long}"]),
                (),
            ),
            (
                "rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h",
                "\r\na=".join([*(f"rid:{one} send" for one in many), f"simulcast:send {';'.join(many)}"]),
                tuple(many[:MAX_LAYERS]),
            ),
        ):
            with self.subTest(new):
                self.assertEqual(self.received(LINES.replace(old, new)).layers, layers)


class TestSizes(WHIPCase):
    def setUp(self) -> None:
        super().setUp()
        self.material = {rid: material(Codec.H264, frames=12, size=size) for rid, size in SIZES.items()}
        self.ssrcs |= {"l": 11, "m": 12, "h": 13}  # type: ignore[dict-item]
        self.named: set[object] = set()
        """Those that need not say any more which they are."""

    def begin(self) -> WHIPPublisher:
        return self.connect(lines=f"{whip_offer()}>{simulcast_offer()}")

    def layer(self, rid: str, body: bytes, timestamp: int, marker: bool, again: bool = False) -> int:
        """A packet of one size; its sequence number."""
        assert self.browser.sender is not None
        key: Any = (rid, again)
        if key not in self.streams:
            ssrc = self.ssrcs[rid] + 100 * again  # type: ignore[index]
            self.streams[key] = self.browser.sender.stream(ssrc, RESENT if again else VIDEO, 77)
        stream = self.streams[key]
        element = bytes(((11 if again else 10) << 4 | len(rid) - 1,)) + rid.encode()
        extension = b"" if key in self.named else b"\xbe\xde\0\x01" + element + bytes(3 - len(rid))
        sequence = stream.next_index & 0xFFFF
        packet = stream.protect(((PLAIN | MARKER if marker else PLAIN, body),), timestamp, extension)
        self.port.datagram(packet, ADDRESS)
        return sequence

    def show(self, rids: str, pictures: int, gop: int = SECOND) -> None:
        """Pictures of these sizes, and sound, in real time. Each size counts from a beginning of its own."""
        for _ in range(pictures):
            keyframe = self.pictures % gop == 0
            for number, rid in enumerate(rids):
                track, packets = self.material[rid]
                sets = parse_configuration(track.extradata)
                made = packets[0 if keyframe else 1 + self.pictures % 11].payload
                for run in packetize(made, LIMIT, (*sets.sps, *sets.pps)):
                    for first, body in run.payloads:
                        body = body[: -body[-1]] if first & PADDING else body
                        stamp = self.pictures * PICTURE + 1_000_000 * number
                        self.layer(rid, body, stamp, bool(first & MARKER))
            while self.sounds * 1800 <= self.pictures * PICTURE:
                self.sound(self.sounds * 960)
                self.sounds += 1
            self.pictures += 1
            self.pass_by(1 / 30)

    @property
    def sizes(self) -> dict[str, int]:
        return {one.name: one.tracks[0].width for one in self.stream.listed()}

    def test_the_largest_is_the_source_and_the_others_are_renditions(self) -> None:
        self.begin()
        self.show("lmh", 70)
        self.assertEqual(self.sizes, {"source": 128, "layer.1": 64, "layer.2": 96})
        self.assertEqual(self.stream.source.tracks[1].codec, Codec.OPUS)
        for rendition in self.stream.listed():
            self.assertEqual(len(rendition.tracks), 2)
        self.assertEqual(self.reader.words, [], "nothing began anew")

    def test_a_size_says_its_name_only_at_first(self) -> None:
        self.begin()
        self.show("lmh", 3)
        self.named = {("l", False), ("m", False), ("h", False)}
        self.show("lmh", 60)
        self.assertEqual(self.sizes, {"source": 128, "layer.1": 64, "layer.2": 96})

    def test_a_browser_that_begins_with_the_smallest(self) -> None:
        self.begin()
        self.show("l", PATIENCE // PICTURE - 2)
        self.assertEqual(self.hub.find("show"), None)
        self.show("l", SECOND + 3)
        self.assertEqual(self.sizes, {"source": 64})
        self.show("lm", STEADY // PICTURE + 2 * SECOND)
        self.assertEqual(self.sizes, {"source": 96, "layer.1": 64})
        self.show("lmh", STEADY // PICTURE + 2 * SECOND)
        self.assertEqual(self.sizes, {"source": 128, "layer.1": 64, "layer.2": 96})
        anew = [word for word in self.reader.words if word.startswith("restarted")]
        self.assertEqual(len(anew), 2, "each change is a beginning for all viewers")

    def test_when_the_largest_falls_silent_the_next_is_the_source(self) -> None:
        self.begin()
        self.show("lmh", 70)
        self.show("lm", 80)
        self.assertEqual(self.sizes["source"], 96)
        self.show("lmh", STEADY // PICTURE + 2 * SECOND)
        self.assertEqual(self.sizes["source"], 128)
        times = [packet.dts for packet in self.stream_packets()]
        self.assertEqual(times, sorted(set(times)))

    def stream_packets(self) -> list[Any]:
        """The source's pictures, as the reader of all renditions saw them."""
        return [packet for packet in self.reader.of(True) if packet.track.width == 128]

    def test_all_are_asked_for_keyframes_at_once(self) -> None:
        self.begin()
        self.show("lmh", 40, gop=1000)
        self.browser.rtcp.clear()
        self.show("lmh", 40, gop=1000)
        asked = [
            {item.ssrc for item in rtcp.parse(packet) if isinstance(item, rtcp.KeyframeWanted)}
            for packet in self.browser.rtcp
        ]
        self.assertIn({11, 12, 13}, asked)
        self.assertEqual([one for one in asked if one and one != {11, 12, 13}], [])

    def test_what_one_of_them_misses_comes_again(self) -> None:
        publisher = self.begin()
        self.show("lmh", 40)
        stream = self.streams[("m", False)]  # type: ignore[index]
        missed = stream.next_index & 0xFFFF
        stream.protect(((PLAIN, b"\x41lost"),), 0, b"")
        self.show("lmh", 3)
        asked = [item for item in self.said(rtcp.Nack) if item.sequences]
        self.assertEqual([(item.ssrc, item.sequences) for item in asked[:1]], [(12, (missed,))])
        publisher.pictures[1].rtp, seen = lambda packet, now: seen.append(packet), []  # type: ignore[method-assign, assignment, misc, var-annotated]
        self.layer("m", missed.to_bytes(2, "big") + b"\x41lost", 0, False, again=True)
        self.named.add(("m", True))
        self.layer("m", missed.to_bytes(2, "big") + b"\x41lost", 0, False, again=True)
        self.assertEqual([packet.payload_type for packet in seen], [RESENT, RESENT])

    def test_each_is_reported_on(self) -> None:
        self.begin()
        self.show("lmh", 70)
        self.assertLessEqual({11, 12, 13, 2222}, {item.ssrc for item in self.said(rtcp.Report)})

    def test_what_names_no_layer_is_nobodys(self) -> None:
        publisher = self.begin()
        self.ssrcs |= {"x": 14}  # type: ignore[dict-item]
        self.layer("x", b"\x65", 0, True)
        self.rtp(VIDEO, b"\x65", 0)
        # One with a name and of a payload type that was not agreed on.
        assert self.browser.sender is not None
        named = b"\xbe\xde\0\x01" + bytes((10 << 4,)) + b"m" + bytes(2)
        strange = self.browser.sender.stream(12, 99, 1)
        self.port.datagram(strange.protect(((PLAIN, b"\x65"),), 0, named), ADDRESS)
        self.assertEqual(publisher.unreadable, 3)
        self.assertEqual([one.ssrc for one in publisher.pictures], [None, None, None])

    def test_its_end_is_the_end_of_all(self) -> None:
        publisher = self.begin()
        self.show("lmh", 70)
        publisher.end("over")
        self.assertEqual((self.sizes, self.stream.state), ({"source": 128}, "waiting"))

    def test_nothing_that_is_authentic_does_harm(self) -> None:
        publisher = self.begin()
        self.show("lmh", 40)
        bodies = st.binary(max_size=40)

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.tuples(st.sampled_from("lmh"), bodies, st.booleans(), st.booleans()), max_size=20))
        def sends(packets: list[tuple[str, bytes, bool, bool]]) -> None:
            for rid, body, marker, again in packets:
                self.layer(rid, body, len(body) * TICKS, marker, again)
            self.pass_by(0.1)

        sends()
        self.assertTrue(publisher.peer.is_open)
