"""Channel lists: exact text, and hostile names before a plain reader."""

import re
from typing import Any

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.m3u import Channel, channel_list
from oxidecast.media import LocalProtocolError
from tests.formats.test_lines import HOSTILE


def channel(**fields: Any) -> Channel:
    return Channel(
        **{"id": "news-720p", "name": "News 720p", "group": "239.255.0.1", "port": 30000, **fields}
    )


class ChannelListTests(SynchronousTestCase):
    def test_two_channels(self) -> None:
        self.assertEqual(
            channel_list(
                [channel(category="Sport"), channel(id="b", name="B", group="239.255.0.2", rtp=True)]
            ),
            "#EXTM3U\n"
            '#EXTINF:-1 tvg-id="news-720p" tvg-name="News 720p" group-title="Sport",News 720p\n'
            "udp://@239.255.0.1:30000\n"
            '#EXTINF:-1 tvg-id="b" tvg-name="B",B\n'
            "rtp://@239.255.0.2:30000\n",
        )

    def test_no_channels(self) -> None:
        self.assertEqual(channel_list([]), "#EXTM3U\n")

    def test_addresses(self) -> None:
        for fields, uri in [
            ({"group": "ff15::1"}, "udp://@[ff15::1]:30000"),
            ({"group": "232.0.0.1", "source": "192.0.2.7"}, "udp://192.0.2.7@232.0.0.1:30000"),
            ({"group": "ff35::1", "source": "2001:db8::7"}, "udp://[2001:db8::7]@[ff35::1]:30000"),
            ({"group": "ff12::1", "source": "fe80::7%a\nb"}, "udp://[fe80::7]@[ff12::1]:30000"),
        ]:
            with self.subTest(uri=uri):
                self.assertEqual(channel(**fields).uri, uri)

    def test_what_is_no_address_is_our_fault(self) -> None:
        for fields in [{"group": "host\n"}, {"source": "host"}, {"port": 0}, {"port": 65536}]:
            with self.subTest(fields=fields), self.assertRaises(LocalProtocolError):
                channel_list([channel(**fields)])

    def test_quotes_stay_in_the_name_alone_and_commas_nowhere(self) -> None:
        self.assertIn(
            'tvg-name="Rock \'n\' Roll live",Rock "n" Roll live\n',
            channel_list([channel(name='Rock "n" Roll, live')]),
        )

    def test_a_name_of_nothing(self) -> None:
        self.assertIn(",-\nudp://", channel_list([channel(name="\r\n")]))

    @given(HOSTILE, HOSTILE, HOSTILE)
    @settings(max_examples=150, deadline=None)
    def test_no_name_leaves_its_place(self, id: str, name: str, category: str) -> None:
        text = channel_list([channel(id=id, name=name, category=category), channel()])
        text.encode()
        lines = text.splitlines()
        self.assertEqual(len(lines), 5)
        self.assertEqual([lines[0], *lines[2:]], channel_list([channel()] * 2).splitlines()[:1] + [
            "udp://@239.255.0.1:30000", *channel_list([channel()]).splitlines()[1:]])  # fmt: skip
        # The first comma ends the attributes, which are quoted and paired.
        attributes, _, title = lines[1].partition(",")
        self.assertTrue(re.fullmatch(r'#EXTINF:-1( [a-z-]+="[^",]*"){2,3}', attributes), attributes)
        self.assertTrue(title)
