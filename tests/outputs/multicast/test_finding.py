"""How channels are found: announcements, lists, `oxidecast check`, and what Prometheus reads."""

import json
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.web.test.requesthelper import DummyRequest

from oxidecast.formats.sap import LOCAL, PORT, SAPPacket
from oxidecast.media import Codec
from oxidecast.outputs.multicast.announcer import SHORTEST_LOCAL
from oxidecast.outputs.multicast.check import check
from oxidecast.outputs.multicast.settings import MulticastSettings
from tests.formats.sdp_parser import parse
from tests.outputs.multicast.stage import AUDIO, VIDEO, MulticastCase
from tests.outputs.multicast.test_output import AV1
from tests.streams.stage import planned


class TestAnnouncements(MulticastCase):
    async def test_a_stream_is_announced_again_and_again_and_taken_back(self) -> None:
        await self.begin(sap=True)
        receiver = self.receiver(LOCAL, PORT)
        await self.live()
        first = self.said(receiver)
        self.assertEqual([packet.delete for packet in first], [False])
        self.assertEqual(first[0].source, "127.0.0.1")
        self.assertIn(b"s=show\r\n", first[0].payload)
        self.assertIn(b"m=video 30000 udp 33\r\n", first[0].payload)
        self.turn(SHORTEST_LOCAL * 3)
        again = self.said(receiver)
        self.assertIn(len(again), (2, 3, 4))
        self.assertEqual({packet.hash for packet in again}, {first[0].hash})
        with self.host.entered():
            self.stream.end("over")
        last = self.said(receiver)
        self.assertEqual([(packet.delete, packet.hash) for packet in last], [(True, first[0].hash)])
        self.turn(SHORTEST_LOCAL * 3)
        self.assertEqual(self.said(receiver), [])

    async def test_a_new_title_is_a_new_announcement(self) -> None:
        await self.begin(sap=True)
        receiver = self.receiver(LOCAL, PORT)
        await self.live()
        old = self.said(receiver)[0]
        with self.host.entered():
            self.stream.change_info(msgspec.structs.replace(self.stream.info, title="Another"))
        self.turn(0.1)
        taken_back, new = self.said(receiver)
        self.assertEqual((taken_back.delete, taken_back.hash), (True, old.hash))
        self.assertIn(b"s=Another\r\n", new.payload)
        self.assertNotEqual(new.hash, old.hash)

    async def test_a_stream_that_becomes_private_is_taken_back(self) -> None:
        await self.begin(sap=True)
        receiver = self.receiver(LOCAL, PORT)
        await self.live()
        self.said(receiver)
        choices = {"multicast": {"enabled": True, "open_to_everybody": True}}
        with self.host.entered():
            self.stream.change_info(
                msgspec.structs.replace(self.stream.info, is_private=True, outputs=choices)
            )
        self.assertEqual([packet.delete for packet in self.said(receiver)], [True])
        self.assertEqual(list(self.sent().groups), ["source"], "it is sent all the same")
        self.turn(SHORTEST_LOCAL * 3)
        self.assertEqual(self.said(receiver), [])

    async def test_nothing_is_announced_unless_it_is_wanted(self) -> None:
        await self.begin()
        receiver = self.receiver(LOCAL, PORT)
        await self.live()
        self.assertEqual(self.said(receiver), [])

    def said(self, receiver: Any) -> list[SAPPacket]:
        packets = [SAPPacket.parse(one.data) for one in receiver.read()]
        for packet in packets:
            if not packet.delete:
                parse(packet.payload)
        return packets


class TestLists(MulticastCase):
    async def test_channels_for_players_and_for_programs(self) -> None:
        await self.begin()
        await self.live()
        await self.live(key="key-of-other")
        self.assertEqual(
            [line for line in self.ask("channels.m3u").decode().splitlines() if not line.startswith("#")],
            ["udp://@239.255.0.1:30000", "udp://@239.255.0.2:30001"],
        )
        channels = json.loads(self.ask("channels.json"))["data"]["channels"]
        self.assertEqual([one["stream"] for one in channels], ["show", "other"])
        self.assertEqual(channels[0]["sources"], ["127.0.0.1"])

    async def test_private_streams_are_in_no_list(self) -> None:
        await self.begin()
        await self.live()
        choices = {"multicast": {"enabled": True, "open_to_everybody": True}}
        with self.host.entered():
            self.stream.change_info(
                msgspec.structs.replace(self.stream.info, is_private=True, outputs=choices)
            )
        self.assertEqual(self.ask("channels.m3u"), b"#EXTM3U\n")
        self.assertEqual(json.loads(self.ask("channels.json"))["data"]["channels"], [])

    async def test_nothing_else_is_there(self) -> None:
        await self.begin()
        self.assertEqual(json.loads(self.ask("other", 404))["code"], "not_found")

    def ask(self, name: str, status: int = 200) -> bytes:
        request: Any = DummyRequest([name.encode()])
        body: bytes = self.multicast.routes()["multicast"].render_GET(request)
        self.assertEqual(request.responseCode or 200, status)
        return body


class TestFigures(MulticastCase):
    def scrape(self, *streams: str) -> dict[str, float]:
        class Families:
            collect = lambda _: self.multicast.metrics(streams)  # noqa: E731

        registry = CollectorRegistry()
        registry.register(Families())  # type: ignore[arg-type]
        lines = generate_latest(registry).decode().splitlines()
        return {
            key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    async def test_each_group_and_all_together(self) -> None:
        await self.begin()
        await self.live(seconds=2)
        found = self.scrape("show")
        labels = '{rendition="source",stream="show"}'
        packets = found[f"oxidecast_multicast_packets_total{labels}"]
        self.assertGreater(packets, 50)
        self.assertEqual(found["streaming_multicast_packets_sent"], packets)
        self.assertEqual(found[f"oxidecast_multicast_bytes_total{labels}"], packets * 1316)
        self.assertEqual(
            found['oxidecast_multicast_lateness_seconds_bucket{le="+Inf",rendition="source",stream="show"}'],
            found[f"oxidecast_multicast_lateness_seconds_count{labels}"],
        )

    async def test_a_stream_that_may_be_no_label_is_in_the_sum_alone(self) -> None:
        await self.begin()
        await self.live()
        found = self.scrape()
        self.assertEqual([name for name in found if "show" in name], [])
        self.assertGreater(found["streaming_multicast_packets_sent"], 0)

    async def test_the_sum_never_falls(self) -> None:
        await self.begin()
        await self.live()
        before = self.scrape()["streaming_multicast_packets_sent"]
        with self.host.entered():
            self.stream.end("over")
        self.turn(1)
        self.assertGreaterEqual(self.scrape()["streaming_multicast_packets_sent"], before)

    async def test_the_bitrate_is_measured(self) -> None:
        await self.begin(cbr=True, rate=1_000_000)
        encoder = await self.live()
        self.send(encoder, 10)
        bitrate = self.sent().stats()["source"]["bitrate"]
        self.assertTrue(980_000 < bitrate < 1_020_000, bitrate)


class TestCheck(MulticastCase):
    def lines(self, **settings: Any) -> list[tuple[str, str]]:
        with self.host.entered():
            return list(check(MulticastSettings(buffer_size=1, **settings)))

    async def test_a_route_and_the_lack_of_one(self) -> None:
        self.assertEqual(
            self.lines(interface="127.0.0.1"),
            [("ok", "multicast: 239.255.0.1:30000 to 239.255.3.232:30999 leaves by 127.0.0.1")],
        )
        self.assertEqual([verdict for verdict, _ in self.lines()], ["ok"])
        self.host.ip("route", "del", "239.0.0.0/8", "dev", "lo")
        ((verdict, sentence),) = self.lines()
        self.assertEqual(verdict, "warn")
        self.assertIn("run: ip route add 239.0.0.0/8 dev INTERFACE; or set multicast.interface", sentence)

    async def test_an_interface_that_is_not_there(self) -> None:
        ((verdict, sentence),) = self.lines(interface="eth7")
        self.assertEqual(
            (verdict, sentence),
            ("fail", "multicast: nothing leaves by eth7; set multicast.interface to one of lo"),
        )

    async def test_a_buffer_that_the_system_does_not_grant(self) -> None:
        with self.host.entered():
            found = list(check(MulticastSettings(buffer_size=1 << 30)))
        self.assertIn(("warn", "sysctl -w net.core.wmem_max=1073741824"), [(v, s[-38:]) for v, s in found])


class TestPlanned(MulticastCase):
    """Qualities that are made when somebody wants them."""

    def plan(self, *names: str, **codecs: Codec) -> None:
        with self.host.entered():
            self.stream.plan(
                {name: planned(name, codecs.get(name, Codec.H264)) for name in (*names, *codecs)}
            )

    async def test_their_addresses_are_known_before_they_run(self) -> None:
        await self.begin()
        await self.live()
        self.plan("720p", "360p")
        await self.settled()
        sent = self.sent()
        self.assertEqual(sent.urls("720p"), {"multicast": "udp://@239.255.0.2:30001"})
        self.assertEqual(sent.urls("360p"), {"multicast": "udp://@239.255.0.3:30002"})
        self.assertEqual(sent.urls(None), {"multicast": "udp://@239.255.0.1:30000"})
        self.assertEqual((list(sent.groups), sent.urls("1080p")), (["source"], {}))
        with self.host.entered():
            self.stream.add_rendition("360p", (VIDEO,))
        self.assertEqual(sent.urls("360p"), {"multicast": "udp://@239.255.0.3:30002"})
        with self.host.entered():
            self.stream.remove_rendition("360p", "nobody wants it")
        self.assertEqual(sent.urls("360p"), {"multicast": "udp://@239.255.0.3:30002"})
        self.plan()
        self.assertEqual(sent.urls("360p"), {})

    async def test_a_group_that_is_joined_by_its_sender(self) -> None:
        await self.begin(base_address="232.1.1.1")
        await self.live()
        self.plan("720p")
        await self.settled()
        self.assertEqual(self.sent().urls("720p"), {"multicast": "udp://127.0.0.1@232.1.1.2:30001"})

    async def test_what_the_owner_does_not_send_has_none(self) -> None:
        await self.begin()
        await self.live()
        choices = {"multicast": {"renditions": {"360p": False}}}
        with self.host.entered():
            self.stream.change_info(msgspec.structs.replace(self.stream.info, outputs=choices))
        self.plan("720p", "360p")
        await self.settled()
        self.assertEqual(self.sent().urls("720p"), {"multicast": "udp://@239.255.0.2:30001"})
        self.assertEqual(self.sent().urls("360p"), {})
        with self.host.entered():
            self.stream.change_info(msgspec.structs.replace(self.stream.info, is_private=True))
        self.assertEqual(self.sent().urls("720p"), {})

    async def test_what_transport_streams_cannot_carry_has_none(self) -> None:
        await self.begin()
        await self.live()
        self.plan(av1=Codec.AV1, hevc=Codec.HEVC)
        await self.settled()
        self.assertEqual(self.sent().urls("av1"), {})
        self.assertEqual(self.sent().urls("hevc"), {"multicast": "udp://@239.255.0.2:30001"})

    async def test_one_of_them_stands_in_for_a_source_that_cannot_be_carried(self) -> None:
        await self.begin()
        await self.live(AV1, AUDIO)
        self.plan("720p", "360p", av1=Codec.AV1)
        await self.settled()
        sent, where = self.sent(), {"multicast": "udp://@239.255.0.2:30001"}
        self.assertEqual((sent.urls(None), sent.urls("source"), sent.urls("720p")), (where, where, where))
        with self.host.entered():
            self.stream.add_rendition("720p", (VIDEO,))
        # Who comes now has to want it as well, or it stops when the first one leaves.
        self.assertEqual((sent.urls(None), sent.urls("source")), (where, where))
        choices = {"multicast": {"renditions": {"source": False, "720p": False}}}
        with self.host.entered():
            self.stream.change_info(msgspec.structs.replace(self.stream.info, outputs=choices))
        self.assertEqual(sent.urls(None), {"multicast": "udp://@239.255.0.3:30002"})
        self.assertEqual(sent.urls("source"), {})
