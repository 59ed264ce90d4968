"""Offers and answers: what a browser writes, what aiortc reads, and what is refused."""

from unittest import TestCase

from aiortc import sdp
from hypothesis import given
from hypothesis import strategies as st

from oxidecast.formats.sdp_answer import Sent, Transport, answer, fragment
from oxidecast.formats.sdp_offer import MAX_LAYERS, MAX_MEDIA, MAX_OFFER, Layer, parse, parse_fragment
from oxidecast.media import RemoteProtocolError

FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
OFFER = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 105 112
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:3Xyz
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=ice-options:trickle
a=fingerprint:{FINGERPRINT}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:toffset
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=rtcp-fb:102 goog-remb
a=rtcp-fb:102 nack
a=rtcp-fb:102 nack pli
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=rtpmap:104 H264/90000
a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
a=rtpmap:105 H264/90000
a=rtcp-fb:* nack
a=fmtp:105 level-asymmetry-allowed=1; packetization-mode=1; profile-level-id=64001f
a=rtpmap:112 red/90000
m=audio 9 UDP/TLS/RTP/SAVPF 111 63
c=IN IP4 0.0.0.0
a=ice-ufrag:3Xyz
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:{FINGERPRINT}
a=setup:actpass
a=mid:1
a=recvonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
""".replace("\n", "\r\n")

TRANSPORT = Transport("ufrag", "p" * 24, FINGERPRINT, ("192.0.2.1", "2001:db8::1"), 8189)


class TestOffers(TestCase):
    def test_what_a_browser_offers(self) -> None:
        offer = parse(OFFER)
        self.assertEqual(offer.bundle, ("0", "1"))
        video, audio = offer.media
        self.assertEqual(
            (video.kind, video.mid, video.direction, video.setup), ("video", "0", "recvonly", "actpass")
        )
        self.assertEqual((video.ufrag, video.fingerprints), ("3Xyz", (FINGERPRINT,)))
        self.assertTrue(video.rtcp_mux and video.reduced_size and not video.rejected)
        self.assertEqual(video.extensions, ((1, "urn:ietf:params:rtp-hdrext:toffset"),))
        h264 = next(codec for codec in video.codecs if codec.payload_type == 102)
        self.assertEqual(h264.parameter("profile-level-id"), "42001f")
        self.assertEqual(h264.parameter("packetization-mode"), "1")
        self.assertEqual(h264.parameter("nothing", "else"), "else")
        self.assertEqual(h264.feedback, {"goog-remb", "nack", "nack pli"})
        again = video.retransmission(h264)
        assert again is not None
        self.assertEqual(again.payload_type, 103)
        self.assertIsNone(video.retransmission(again))
        opus = audio.codecs[0]
        self.assertEqual((opus.name, opus.clock_rate, opus.channels), ("opus", 48_000, 2))
        self.assertFalse(audio.reduced_size)

    def test_what_the_session_says_goes_for_its_media(self) -> None:
        lines = OFFER.split("\r\n")
        moved = [line for line in lines if line.startswith(("a=ice-", "a=finger", "a=setup"))][:5]
        kept = [line for line in lines if line not in moved]
        offer = parse("\r\n".join([*kept[:7], *moved, *kept[7:]]))
        self.assertEqual([medium.ufrag for medium in offer.media], ["3Xyz", "3Xyz"])
        self.assertEqual([medium.setup for medium in offer.media], ["actpass", "actpass"])

    def test_lines_may_end_as_elsewhere(self) -> None:
        self.assertEqual(parse(OFFER.replace("\r\n", "\n")), parse(OFFER))

    def test_what_is_refused(self) -> None:
        for old, new, word in (
            ("v=0\r\n", "", "begin with v=0"),
            ("s=-", "s", "line 3"),
            ("s=-", "s=\x07", "control character"),
            ("m=video 9", "m=video nine", "m= line 1"),
            (" 96 97 102 103 104 105 112", "", "m= line 1"),
            ("a=mid:1", "a=mid:0", "two m= lines"),
            ("a=mid:1", "a=mid:<>", "a=mid"),
            ("a=ice-ufrag:3Xyz", "a=ice-ufrag:3", "a=ice-ufrag"),
            ("a=ice-pwd:abcdefghijklmnopqrstuvwx", "a=ice-pwd:short", "a=ice-ufrag"),
            ("a=rtpmap:96 VP8/90000", "a=rtpmap:961 VP8/90000", "a=rtpmap"),
            ("a=rtpmap:96 VP8/90000", "a=rtpmap:96 VP8", "a=rtpmap"),
            ("a=mid:1", "a=x:" + "y" * MAX_OFFER, "characters"),
        ):
            with self.subTest(old=old, new=new[:20]), self.assertRaisesRegex(RemoteProtocolError, word):
                parse(OFFER.replace(old, new))
        with self.assertRaisesRegex(RemoteProtocolError, "no m= line"):
            parse("v=0\r\n")
        with self.assertRaisesRegex(RemoteProtocolError, "m= lines"):
            parse("v=0\n" + "m=audio 9 X 0\n" * (MAX_MEDIA + 1))

    @given(st.text(max_size=300))
    def test_noise_is_refused_or_read(self, text: str) -> None:
        for start in ("", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "v=0\na="):
            try:
                parse(start + text)
            except RemoteProtocolError:
                pass
        try:
            parse_fragment(text)
        except RemoteProtocolError:
            pass

    def test_several_sizes_of_one_picture(self) -> None:
        lines = "a=rid:h send\r\na=rid:m send max-width=640;pt=96,102,x\r\na=rid:l recv\r\n"
        text = OFFER.replace("a=recvonly", f"a=sendonly\r\n{lines}a=simulcast:recv l send ~h;m,o;l;h", 1)
        self.assertEqual(parse(text).media[0].layers, (Layer("h"), Layer("m", (96, 102))))
        self.assertEqual(parse(OFFER).media[0].layers, ())
        many = [f"n{number}" for number in range(2 * MAX_LAYERS)]
        lines = "".join(f"a=rid:{rid} send\r\n" for rid in many)
        text = OFFER.replace("a=recvonly", f"{lines}a=simulcast:send {';'.join(many)}", 1)
        self.assertEqual(len(parse(text).media[0].layers), MAX_LAYERS)

    @given(st.text("send rcv;~,=hpt01:", max_size=40), st.text("send rcv;~,=hpt01:", max_size=40))
    def test_any_lines_of_sizes(self, rid: str, simulcast: str) -> None:
        lines = f"a=rid:h send\r\na=rid:{rid}\r\na=simulcast:{simulcast}\r\na=simulcast:send h"
        for layer in parse(OFFER.replace("a=recvonly", lines, 1)).media[0].layers:
            self.assertRegex(layer.rid, r"\A[A-Za-z0-9_-]{1,64}\Z")

    @given(st.lists(st.tuples(st.integers(0, len(OFFER)), st.sampled_from("\r\n=:;/ 0a\x00é")), max_size=8))
    def test_an_offer_with_faults_is_refused_or_read(self, faults: list[tuple[int, str]]) -> None:
        text = OFFER
        for at, char in faults:
            text = text[:at] + char + text[at + 1 :]
        try:
            offer = parse(text)
        except RemoteProtocolError:
            return
        written = answer(1, [(medium, None) for medium in offer.media], TRANSPORT, "name")
        self.assertEqual(written.count("\r\nm="), len(offer.media), "nothing leaves its line")


class TestFragments(TestCase):
    def test_candidates_are_passed_over(self) -> None:
        text = "a=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        self.assertEqual(parse_fragment(text), ("", ""))

    def test_credentials(self) -> None:
        self.assertEqual(parse_fragment(f"a=ice-ufrag:abcd\r\na=ice-pwd:{'p' * 22}\r\n"), ("abcd", "p" * 22))
        for text in ("a=ice-ufrag:abcd", "nonsense", "a=ice-ufrag:a\na=ice-pwd:b"):
            with self.assertRaises(RemoteProtocolError):
                parse_fragment(text)

    def test_ours_are_read_back(self) -> None:
        self.assertEqual(
            parse_fragment(fragment(Transport("abcd", "p" * 32, "", (), 1), "0")), ("abcd", "p" * 32)
        )


class TestAnswers(TestCase):
    def answer(self) -> str:
        video, audio = parse(OFFER).media
        h264 = next(codec for codec in video.codecs if codec.payload_type == 102)
        sent = Sent(
            h264, 7, h264.parameters, ("nack", "nack pli"), video.retransmission(h264), retransmission_ssrc=8
        )
        return answer(5, [(video, sent), (audio, Sent(audio.codecs[0], 9))], TRANSPORT, "name")

    def test_aiortc_reads_it(self) -> None:
        description = sdp.SessionDescription.parse(self.answer())
        video, audio = description.media
        self.assertEqual([codec.payloadType for codec in video.rtp.codecs], [102, 103])
        self.assertEqual(video.rtp.codecs[0].parameters["profile-level-id"], "42001f")
        self.assertEqual([codec.mimeType for codec in audio.rtp.codecs], ["audio/opus"])
        self.assertEqual(audio.rtp.codecs[0].channels, 2)
        self.assertEqual((video.direction, audio.direction), ("sendonly", "sendonly"))
        assert video.dtls is not None
        self.assertEqual(video.dtls.role, "server")
        self.assertTrue(video.ice.iceLite)
        self.assertEqual([one.ip for one in video.ice_candidates], ["192.0.2.1", "2001:db8::1"] * 2)
        self.assertEqual([one.protocol for one in video.ice_candidates], ["udp", "udp", "tcp", "tcp"])
        self.assertEqual([one.tcpType for one in video.ice_candidates], [None, None, "passive", "passive"])
        self.assertEqual(len({one.foundation for one in video.ice_candidates}), 4)
        priorities = [one.priority for one in video.ice_candidates]
        self.assertEqual(priorities, sorted(set(priorities), reverse=True))
        self.assertEqual([one.ssrc for one in video.ssrc], [7, 8])
        self.assertEqual(video.ssrc_group[0].items, [7, 8])

    def test_what_is_not_sent_is_refused(self) -> None:
        video, audio = parse(OFFER).media
        text = answer(5, [(video, None), (audio, Sent(audio.codecs[0], 9))], TRANSPORT, "name")
        self.assertIn("m=video 0 ", text)
        self.assertIn("a=group:BUNDLE 1\r\n", text)
