"""Publishers by WHIP: a browser of our own sends, a real hub is published to, and what is said back."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from oxidecast.formats import rtcp
from oxidecast.formats.sdp_offer import parse
from oxidecast.ingest.whip import negotiation
from oxidecast.ingest.whip.medium import SILENT
from oxidecast.ingest.whip.publisher import SILENCE
from oxidecast.interfaces import IIngest, IMakesKeyframes, IMeasured, IPublisher, ITotals
from oxidecast.media import TICKS, Codec
from oxidecast.webrtc.srtp import Profile
from tests.ingest.whip.stage import (
    AUDIO,
    PACKETS,
    TRACK,
    TRANSPORT_WIDE,
    VIDEO,
    WHIPCase,
    whip_offer,
)
from tests.outputs.webrtc.stage import ADDRESS
from tests.streams.stage import PICTURE, Encoder


class TestNegotiation(WHIPCase):
    def agree(self, **changes: str) -> negotiation.Agreed:
        offer = parse(whip_offer(**changes))
        negotiation.check(offer)
        return negotiation.agree(offer)

    def test_the_codec_that_most_players_have_is_taken(self) -> None:
        video = self.agree().video
        assert video is not None and video.retransmission is not None
        self.assertEqual((video.codec.payload_type, video.retransmission.payload_type), (102, 103))
        self.assertEqual(video.feedback, ("nack", "nack pli", "transport-cc", "goog-remb"))
        for changes, name in (
            ({"a": "H264>H265"}, "h265"),
            ({"a": "H264>AV1", "b": "VP8>VP9"}, "av1"),
            ({"a": "H264>VP9"}, "vp9"),
            ({"a": "H264>X"}, "vp8"),
        ):
            video = self.agree(**changes).video
            assert video is not None
            self.assertEqual(video.codec.name, name)

    def test_the_answer_receives(self) -> None:
        self.join()
        for line in (
            "a=recvonly",
            "a=setup:passive",
            "a=rtcp-fb:102 transport-cc",
            "a=rtcp-fb:102 nack pli",
            TRANSPORT_WIDE.strip(),
            "a=fmtp:103 apt=102",
            "a=rtpmap:111 opus/48000/2",
        ):
            self.assertIn(f"{line}\r\n", self.answer)
        self.assertNotIn("a=ssrc", self.answer)

    def test_what_is_refused(self) -> None:
        for change, word in (
            ("a=sendonly>a=recvonly", "sends no video"),
            ("a=setup:actpass>a=setup:holdconn", "a=setup"),
            ("a=rtcp-mux>a=x:y", "rtcp-mux"),
            ("a=group:BUNDLE 0 1>a=x:y", "BUNDLE"),
            ("sha-256>sha-1", "fingerprint"),
        ):
            with self.assertRaisesRegex(Exception, word):
                self.agree(change=change)
        with self.assertRaisesRegex(Exception, "one payload type for two"):
            self.agree(
                a="m=audio 9 UDP/TLS/RTP/SAVPF 111>m=audio 9 UDP/TLS/RTP/SAVPF 102", b=":111 opus>:102 opus"
            )


class TestPublishing(WHIPCase):
    def test_it_provides_what_it_says(self) -> None:
        for interface in (IIngest, IMeasured, ITotals):
            verifyObject(interface, self.whip)
        publisher = self.join()
        verifyObject(IPublisher, publisher)
        verifyObject(IMakesKeyframes, publisher)

    def test_what_a_browser_sends_is_a_stream(self) -> None:
        self.connect()
        self.send(40)
        self.assertEqual([track.codec for track in self.stream.source.tracks], [Codec.H264, Codec.OPUS])
        self.assertEqual(self.stream.source.tracks[0].extradata, TRACK.extradata)
        pictures, sounds = self.reader.of(True), self.reader.of(False)
        self.assertEqual(len(pictures), 40)
        self.assertEqual({after.dts - before.dts for before, after in pairwise(pictures)}, {PICTURE})
        self.assertEqual({packet.pts - packet.dts for packet in pictures}, {0})
        self.assertEqual([packet.keyframe for packet in pictures[:13]], [True] + [False] * 11 + [True])
        self.assertEqual({after.dts - before.dts for before, after in pairwise(sounds)}, {1800})
        self.assertLessEqual(abs(sounds[0].dts - pictures[0].dts), PICTURE)
        self.assertEqual(self.reader.words, [])

    def test_by_the_older_cipher_and_by_who_waits_for_our_handshake(self) -> None:
        publisher = self.connect(Profile.AES_128_CM_SHA1_80, setup="a=setup:actpass>a=setup:passive")
        self.assertIn("a=setup:active\r\n", self.answer)
        self.send(15)
        self.assertEqual(publisher.profile, "SRTP_AES128_CM_SHA1_80")
        self.assertEqual(len(self.reader.of(True)), 15)

    def test_what_is_lost_is_asked_for_and_comes_by_rtx(self) -> None:
        publisher = self.connect()
        self.send(14)
        sequences = self.picture(PACKETS[0].payload, 0xFFFFF000 + 14 * PICTURE, frozenset({1, 2}))
        self.assertGreater(len(sequences), 3)
        self.pass_by(0.06)
        asked = [number for item in self.said(rtcp.Nack) for number in item.sequences]
        self.assertEqual(asked, sequences[1:3])
        self.assertEqual(len(self.reader.of(True)), 14)
        for sequence in asked:
            self.again(sequence)
        self.assertEqual(len(self.reader.of(True)), 15)
        self.assertEqual(self.reader.of(True)[-1].payload[-20:], PACKETS[0].payload[-20:])
        self.assertLess(publisher.pictures[0].buffer.rtt, 0.1, "the round trip was measured")
        self.assertEqual(publisher.pictures[0].reception.received, len(self.kept) - 2)

    def test_what_never_comes_is_given_up_and_a_keyframe_is_asked_for(self) -> None:
        self.connect()
        self.send(14)
        self.browser.rtcp.clear()
        self.picture(PACKETS[2].payload, 0xFFFFF000 + 14 * PICTURE, frozenset({0}))
        self.pictures += 1
        self.send(8, gop=100)
        self.assertEqual(len(self.reader.of(True)), 14)
        self.send(14, gop=100)
        self.assertGreater(len(self.reader.of(True)), 25)
        self.assertGreater(len(self.said(rtcp.KeyframeWanted)), 0)

    def test_a_keyframe_is_asked_for_when_none_comes_by_itself(self) -> None:
        self.connect()
        self.send(40, gop=1000)
        self.browser.rtcp.clear()
        self.send(40, gop=1000)
        self.assertIn(len(self.said(rtcp.KeyframeWanted)), (1, 2))

    def test_who_makes_keyframes_when_asked_is_asked_for_viewers(self) -> None:
        self.connect()
        self.send(70, gop=65)
        source = self.stream.source
        self.assertTrue(source.want_keyframe(), "one was asked for after two seconds, and came")
        self.browser.rtcp.clear()
        self.pass_by(0.3)
        self.assertEqual(len(self.said(rtcp.KeyframeWanted)), 1)
        self.send(70, gop=1000)
        self.assertFalse(source.want_keyframe(), "none came any more")
        self.encoder = Encoder(self).start()
        self.encoder.send(60)
        self.pass_by(1)
        self.assertFalse(source.want_keyframe(), "RTMP cannot ask")

    def test_reports_and_when_packets_came(self) -> None:
        publisher = self.connect()
        self.say(self.report(VIDEO, 1_000_000, 0xFFFFF000))
        self.send(3)
        self.say(self.report(VIDEO, 1_000_000, 0xFFFFF000))
        self.send(60)
        reports = self.said(rtcp.Report)
        self.assertEqual({item.ssrc for item in reports}, {1111, 2222})
        self.assertEqual({item.lost for item in reports}, {0})
        self.assertNotEqual(reports[0].last_report, 0)
        told = [packet for packet in self.browser.rtcp if b"\x8f\xcd" in packet]
        self.assertGreater(len(told), 15)
        self.assertEqual(publisher.unreadable, 0)

    def test_how_its_media_comes_is_told(self) -> None:
        publisher = self.connect()
        self.whip.sessions["one"] = publisher
        self.send(14)
        lost = self.picture(PACKETS[0].payload, 0xFFFFF000 + 14 * PICTURE, frozenset({1}))
        self.pictures += 1
        self.pass_by(0.1)
        self.again(lost[1])
        self.send(20)
        [said] = [packet for packet in self.browser.rtcp if b"\x80\xcf\0\4" in packet][-1:]
        at = said.index(b"\x80\xcf\0\4")
        echo = b"\x80\xcf\0\5" + bytes(4) + b"\5\0\0\3" + said[at + 4 : at + 8] + said[at + 14 : at + 18]
        self.send(1)
        self.say(echo + bytes(4))
        self.send(110, gop=1000)  # A keyframe is asked for after two seconds, and figures are told once a second.
        assert self.stream.publication is not None
        told = self.stream.publication.figures
        self.assertEqual((told["lost"], told["nacks"], told["given_up"], told["faults"]), (1, 1, 0, 0))
        self.assertGreater(told["packets"], 75)
        self.assertGreater(told["bitrate"], 10_000)
        self.assertGreater(told["worst_loss"], 0)
        self.assertGreater(told["round_trip"], 0.03)
        self.assertLess(told["jitter"], 0.01)
        self.assertGreater(told["keyframes_wanted"], 0)
        self.assertEqual(self.whip.totals()["publishers"], 1)
        families = {family.name: family for family in self.whip.metrics(["show"])}
        self.assertEqual(families["oxidecast_whip_jitter_seconds"].samples[0].labels, {"stream": "show"})
        self.assertEqual(families["oxidecast_whip_loss_ratio"].samples[0].value, 0)
        self.whip.forget("one", publisher)
        self.assertEqual((self.whip.totals()["publishers"], self.whip.totals()["lost"]), (0, 1))
        families = {family.name: family for family in self.whip.metrics(["show"])}
        self.assertEqual(families["oxidecast_whip_lost"].samples[0].value, 1)
        self.assertEqual(families["oxidecast_whip_jitter_seconds"].samples, [])

    def test_who_has_no_such_feedback_is_told_a_bitrate(self) -> None:
        self.connect(extension=f"{TRANSPORT_WIDE}>", feedback="a=rtcp-fb:102 transport-cc\r\n>")
        self.send(60)
        self.assertGreater(len(self.said(rtcp.Estimate)), 0)
        self.assertGreater(self.said(rtcp.Estimate)[0].bitrate, 40_000_000)

    def test_reports_bring_sound_and_pictures_together(self) -> None:
        self.connect()
        self.send(30)
        # The sound was sent 100 ms earlier than it came.
        self.say(self.report(VIDEO, 1_000.0, 0xFFFFF000))
        self.say(self.report(AUDIO, 1_000.1, 5))
        self.send(300)
        offset = self.reader.of(True)[-1].dts - self.reader.of(False)[-1].dts
        self.assertLess(abs(offset + TICKS // 10), 2 * PICTURE)

    def test_b_frames_are_decoded_before_they_are_shown(self) -> None:
        self.connect()
        order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11]
        for number, shown in enumerate(order):
            payload = PACKETS[0 if number == 0 else 1 + number % 11].payload
            self.picture(payload, shown * PICTURE)
            self.sound(number * 1600)
            self.pass_by(1 / 30)
        self.pass_by(1.0)
        self.send(1)
        pictures = self.reader.of(True)[: len(order)]
        times = [packet.dts for packet in pictures]
        self.assertEqual(times, sorted(set(times)))
        self.assertTrue(all(packet.pts >= packet.dts for packet in pictures))
        shown_at = [packet.pts for packet in pictures[4:]]
        first = shown_at[0] - 6 * PICTURE
        self.assertEqual([(at - first) // PICTURE for at in shown_at], order[4:])

    def test_a_numbering_that_begins_anew_goes_on_in_time(self) -> None:
        self.connect()
        self.send(30)
        for number in range(30):
            keyframe = number % 12 == 0
            self.picture(PACKETS[0 if keyframe else 1].payload, 77_000_000 + number * PICTURE)
            self.pass_by(1 / 30)
        pictures = self.reader.of(True)
        self.assertEqual(len(pictures), 60)
        self.assertLess(max(after.dts - before.dts for before, after in pairwise(pictures)), 3 * PICTURE)

    def test_another_source_takes_over_only_from_one_that_is_silent(self) -> None:
        publisher = self.connect()
        self.send(15)
        self.ssrcs[VIDEO] = 5555
        del self.streams[VIDEO]
        self.rtp(VIDEO, b"\x65", 0)
        self.assertEqual(publisher.pictures[0].ssrc, 1111)
        self.pass_by(SILENT + 0.1)
        self.pictures = 24
        self.send(15)
        self.assertEqual(publisher.pictures[0].ssrc, 5555)
        self.assertEqual(len(self.reader.of(True)), 30)

    def test_a_source_may_say_goodbye(self) -> None:
        publisher = self.connect()
        self.send(15)
        self.say(rtcp.goodbye([1111], b"cname"))
        self.assertIsNone(publisher.pictures[0].ssrc)
        self.ssrcs[VIDEO] = 5555
        del self.streams[VIDEO]
        self.pictures = 24
        self.send(15)
        self.assertEqual(publisher.pictures[0].ssrc, 5555)

    def report(self, payload_type: int, at: float, timestamp: int) -> bytes:
        return rtcp.sender_report(self.ssrcs[payload_type], at, timestamp, 1, 1, b"cname")


class TestLife(WHIPCase):
    def test_who_is_silent_has_gone(self) -> None:
        publisher = self.connect()
        self.send(15)
        for _ in range(int(SILENCE) + 1):
            self.port.datagram(self.browser.check(), ADDRESS)
            self.pass_by(1.0)
        self.assertFalse(publisher.peer.is_open)
        self.assertEqual((self.gone, self.stream.state, len(self.port)), (1, "waiting", 0))

    def test_one_that_never_connects_leaves_nothing(self) -> None:
        self.join()
        for _ in range(40):
            self.pass_by(1.0)
        self.assertEqual((self.gone, len(self.port), self.hub.streams), (1, 0, {}))

    def test_it_ends_with_its_session(self) -> None:
        publisher = self.connect()
        self.send(15)
        publisher.end("over")
        self.assertEqual((self.gone, self.stream.state), (1, "waiting"))
        self.assertFalse(self.clock.getDelayedCalls() == [])
        self.assertEqual(publisher.mid, "0")

    def test_it_may_be_taken_over(self) -> None:
        publisher = self.connect()
        self.send(15)
        Encoder(self).start().send(60)
        self.assertFalse(publisher.peer.is_open)
        self.assertEqual(self.stream.state, "live")

    def test_it_comes_back_within_the_grace(self) -> None:
        self.connect().end("a new session")
        self.streams.clear()
        self.connect()
        self.send(40)
        self.assertEqual(self.stream.state, "live")

    def test_a_mistake_of_ours_costs_one_session(self) -> None:
        def fails(*_: object) -> None:
            raise RuntimeError("a mistake")

        publisher = self.connect()
        publisher.pictures[0].rtp = fails  # type: ignore[method-assign, assignment]
        self.rtp(VIDEO, b"x", 0)
        self.assertFalse(publisher.peer.is_open)
        self.streams.clear()
        publisher = self.connect()
        publisher.pictures[0].poll = fails  # type: ignore[method-assign, assignment]
        self.pass_by(0.1)
        self.assertFalse(publisher.peer.is_open)
        self.assertEqual((len(self.flushLoggedErrors(RuntimeError)), len(self.port), self.gone), (2, 0, 2))

    def test_a_stream_of_one_kind(self) -> None:
        text = whip_offer()
        audio = "m=audio" + text.split("m=audio")[1]
        self.connect(audio=f"{audio}>")
        self.send_pictures()
        self.assertEqual([track.codec for track in self.stream.source.tracks], [Codec.H264])

    def send_pictures(self) -> None:
        for number in range(15):
            self.picture(PACKETS[0 if number == 0 else 1 + number % 11].payload, number * PICTURE)
            self.pass_by(1 / 30)


class TestFuzz(WHIPCase):
    def test_nothing_that_is_authentic_does_harm(self) -> None:
        publisher = self.connect()
        self.send(15)
        sizes = st.binary(max_size=64)
        kinds = st.sampled_from([VIDEO, 103, AUDIO, 96, 63])

        @settings(max_examples=150, deadline=None)
        @given(st.lists(st.tuples(kinds, sizes, st.integers(0, (1 << 32) - 1), st.booleans()), max_size=8))
        def rtp(packets: list[tuple[int, bytes, int, bool]]) -> None:
            for kind, payload, timestamp, marker in packets:
                self.rtp(kind, payload, timestamp, marker)
            self.pass_by(0.04)

        rtp()

        @settings(max_examples=150, deadline=None)
        @given(
            st.binary(max_size=80), st.sampled_from([b"\x80\xc8", b"\x81\xc9", b"\x81\xcb", b"\x8f\xcd", b""])
        )
        def rtcp_and_headers(data: bytes, head: bytes) -> None:
            self.port.datagram(data, ADDRESS)
            self.say((head + data).ljust(8, b"\0"))
            publisher.rtcp(head + data)
            publisher.rtp(data)
            publisher.rtp(b"\x90\x66" + data)
            self.pass_by(0.02)

        rtcp_and_headers()
        self.assertTrue(publisher.peer.is_connected)
        self.browser.rtcp.clear()
        self.deliver()

    def test_every_codec_survives_what_is_no_payload_of_it(self) -> None:
        for name in ("H264", "H265", "AV1", "VP9"):
            publisher = self.connect(codec=f"H264>{name}", setup="a=x>a=x")

            @settings(max_examples=100, deadline=None)
            @given(st.lists(st.tuples(st.binary(max_size=48), st.booleans()), max_size=6))
            def rtp(packets: list[tuple[bytes, bool]]) -> None:
                for payload, marker in packets:
                    self.rtp(VIDEO, payload, 0, marker)
                self.pass_by(0.02)

            rtp()
            self.assertTrue(publisher.peer.is_connected)
            publisher.end("next")
            self.streams.clear()
