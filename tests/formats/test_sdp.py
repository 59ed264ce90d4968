"""Session descriptions: exact text, and hostile titles before a strict reader."""

from typing import Any

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.fec import Matrix
from oxidecast.formats.sdp import Session, session_id
from oxidecast.media import LocalProtocolError
from tests.formats.sdp_parser import parse
from tests.formats.test_lines import HOSTILE


def session(**fields: Any) -> Session:
    return Session(
        **{
            "id": 12345,
            "version": 1_700_000_000,
            "origin": "192.0.2.7",
            "title": "Evening news",
            "group": "239.255.0.1",
            "port": 30000,
            **fields,
        }
    )


class SessionTests(SynchronousTestCase):
    def test_plain_udp(self) -> None:
        self.assertEqual(
            bytes(session(information="720p", ttl=4)).decode(),
            "v=0\r\n"
            "o=- 12345 1700000000 IN IP4 192.0.2.7\r\n"
            "s=Evening news\r\n"
            "i=720p\r\n"
            "c=IN IP4 239.255.0.1/4\r\n"
            "t=0 0\r\n"
            "a=tool:OxideCast\r\n"
            "a=type:broadcast\r\n"
            "a=recvonly\r\n"
            "m=video 30000 udp 33\r\n"
            "a=rtpmap:33 MP2T/90000\r\n",
        )

    def test_rtp_with_fec(self) -> None:
        for text, value in [("10x8", "L=10 D=8 both"), ("1x20 columns", "L=1 D=20 columns")]:
            description = parse(bytes(session(rtp=True, fec=Matrix.parse(text))))
            (medium,) = description.media
            self.assertEqual((medium.protocol, medium.formats), ("RTP/AVP", ["33"]))
            self.assertEqual(dict(medium.attributes), {"rtpmap": "33 MP2T/90000", "x-smpte2022-1": value})

    def test_an_odd_port_of_rtp_names_the_one_of_rtcp(self) -> None:
        for fields, port in [
            ({"rtp": True, "port": 30001}, "30002"),
            ({"rtp": True}, None),
            ({"port": 30001}, None),
        ]:
            (medium,) = parse(bytes(session(**fields))).media
            with self.subTest(fields=fields):
                self.assertEqual(dict(medium.attributes).get("rtcp"), port)

    def test_a_source_specific_group(self) -> None:
        description = parse(bytes(session(group="232.1.2.3", source_specific=True)))
        self.assertIn(("source-filter", " incl IN IP4 232.1.2.3 192.0.2.7"), description.attributes)

    def test_ipv6_has_no_ttl(self) -> None:
        description = parse(
            bytes(session(origin="2001:db8::7", group="ff15::1", source_specific=True, ttl=9))
        )
        self.assertEqual(
            (description.origin, description.group, description.ttl), ("2001:db8::7", "ff15::1", None)
        )
        self.assertIn(("source-filter", " incl IN IP6 ff15::1 2001:db8::7"), description.attributes)

    def test_a_session_without_a_name(self) -> None:
        self.assertEqual(parse(bytes(session(title="\r\n"))).title, "-")

    @given(HOSTILE, HOSTILE)
    @settings(max_examples=150, deadline=None)
    def test_no_title_leaves_its_line(self, title: str, information: str) -> None:
        plain = parse(bytes(session()))
        description = parse(bytes(session(title=title, information=information)))
        self.assertEqual(
            (description.media, description.attributes, description.group, description.id),
            (plain.media, plain.attributes, plain.group, plain.id),
        )

    def test_a_title_of_megabytes_fits_in_a_datagram(self) -> None:
        fields = {"title": "⚽" * 10**6, "information": "x" * 10**6, "rtp": True, "source_specific": True}
        self.assertLess(len(bytes(session(**fields, fec=Matrix(10, 10)))), 1000)

    def test_what_cannot_be_announced_is_our_fault(self) -> None:
        for fields, sentence in [
            ({"group": "239.255.0"}, "needs addresses"),
            ({"origin": "host\r\n"}, "needs addresses"),
            ({"group": "192.0.2.1"}, "cannot send"),
            ({"origin": "239.1.1.1"}, "cannot send"),
            ({"group": "ff15::1"}, "cannot send"),
            ({"group": "ff15::1", "origin": "fe80::1%a\r\nb=c"}, "zone"),
            ({"port": 0}, "port 0"),
            ({"port": 65536}, "port 65536"),
            ({"port": 65535, "rtp": True}, "no room"),
            ({"port": 65532, "rtp": True, "fec": Matrix(4, 4)}, "no room"),
            ({"ttl": 256}, "TTL 256"),
            ({"id": -1}, "session id -1"),
            ({"version": 1 << 63}, "version"),
            ({"fec": Matrix(4, 4)}, "FEC protects RTP"),
        ]:
            with self.subTest(fields=fields), self.assertRaisesRegex(LocalProtocolError, sentence):
                session(**fields)


class SessionIdTests(SynchronousTestCase):
    def test_it_never_changes(self) -> None:
        self.assertEqual(session_id("news/720p"), SESSION_ID)

    def test_others_have_others(self) -> None:
        self.assertEqual(len({session_id(f"stream {n}") for n in range(1000)}), 1000)

    def test_any_key_has_one(self) -> None:
        self.assertGreater(session_id("\ud800"), 0)


SESSION_ID = 48_109_326_308_663_901
