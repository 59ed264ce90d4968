"""[multicast]: its rules, what follows from it, and an owner's choices."""

from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.fec import Matrix
from oxidecast.outputs.multicast.settings import (
    Addresses,
    MulticastChoices,
    MulticastSettings,
    is_source_specific,
)
from oxidecast.settings import Invalid, SettingsError
from tests.settings.support import loaded


class Rules(SynchronousTestCase):
    def test_what_can_never_work_is_refused(self) -> None:
        for wrong in (
            {"base_address": "10.0.0.1"},
            {"base_address": "x"},
            {"base_address": "ff02::1%eth0"},
            {"base_address": "224.0.0.9"},
            {"port_range": (0, 10)},
            {"port_range": (2, 1)},
            {"fec": "10x10"},
            {"fec": "99x99", "encapsulation": "rtp"},
            {"fec": "some", "encapsulation": "rtp"},
            {"interface": "a,b,a"},
            {"interface": "192.0.2.1", "base_address": "ff15::1"},
            {"interface": "2001:db8::1"},
            {"encapsulation": "rtp", "fec": "4x4", "port_range": (65_532, 65_535)},
            {"rate": 300_000},
            {"rate": 1_000_000, "packet_size": 9212},
            {"rates": {"360p": 300_000}},
            {"interface": ",".join(map(str, range(9)))},
        ):
            with self.subTest(wrong=wrong):
                self.assertRaises(Invalid, MulticastSettings, **wrong)

    def test_a_rate_that_leaves_no_room_is_refused(self) -> None:
        for toml in ("[multicast]\nrate = 1000", "[multicast.rates]\n720p = 1000", "[multicast]\nttl = 256"):
            self.assertIn("multicast.", str(self.assertRaises(SettingsError, loaded, toml)))

    def test_an_interface_or_several(self) -> None:
        for text, wanted in (
            (None, ("",)),
            ("", ("",)),
            ("eth0", ("eth0",)),
            (" eth0, 192.0.2.1 ,", ("eth0", "192.0.2.1")),
        ):
            self.assertEqual(MulticastSettings(interface=text).interfaces, wanted)

    def test_datagrams_hold_whole_transport_packets(self) -> None:
        for size, wanted in ((188, 188), (375, 188), (1316, 1316), (1500, 1316), (9000, 8836)):
            self.assertEqual(MulticastSettings(packet_size=size).datagram, wanted)

    def test_a_constant_rate_of_all_or_of_one(self) -> None:
        self.assertIsNone(MulticastSettings().constant_rate("source"))
        self.assertEqual(MulticastSettings(cbr=True, rate=5_000_000).constant_rate("source"), 5_000_000)
        one = MulticastSettings(rates={"720p": 4_000_000})
        self.assertEqual((one.constant_rate("source"), one.constant_rate("720p")), (None, 4_000_000))

    def test_variables_set_it_too(self) -> None:
        settings = loaded(
            OXIDECAST_MULTICAST_RATES='{"720p": 4000000}',
            OXIDECAST_MULTICAST_INTERFACE="eth0,eth1",
            OXIDECAST_MULTICAST_ENCAPSULATION="rtp",
            OXIDECAST_MULTICAST_FEC="10x10 columns",
        ).of(MulticastSettings)
        self.assertEqual((settings.rates, settings.interfaces), ({"720p": 4_000_000}, ("eth0", "eth1")))
        self.assertEqual(settings.matrix, Matrix(10, 10, both=False))


class Numbers(SynchronousTestCase):
    def test_address_and_port_rise_together(self) -> None:
        addresses = Addresses(MulticastSettings())
        self.assertEqual(
            (addresses.of(0), addresses.of(255)), (("239.255.0.1", 30_000), ("239.255.1.0", 30_255))
        )
        self.assertEqual(addresses.room, 1000)
        self.assertRaises(IndexError, addresses.of, 1000)

    def test_the_addresses_end(self) -> None:
        addresses = Addresses(MulticastSettings(base_address="239.255.255.250"))
        self.assertEqual((addresses.room, addresses.of(5)), (6, ("239.255.255.255", 30_005)))
        self.assertEqual([addresses.usable(n) for n in range(6)], [True] * 5 + [False])

    def test_the_ports_of_fec_are_ports(self) -> None:
        settings = MulticastSettings(encapsulation="rtp", fec="4x4", port_range=(65_000, 65_535))
        self.assertEqual(Addresses(settings).room, 65_535 - 4 - 65_000 + 1)

    def test_ipv6(self) -> None:
        self.assertEqual(Addresses(MulticastSettings(base_address="ff15::ffff")).of(1), ("ff15::1:0", 30_001))

    def test_which_groups_are_source_specific(self) -> None:
        for group, wanted in (
            ("232.1.1.1", True),
            ("239.255.0.1", False),
            ("ff3e::8000:1", True),
            ("ff35::1", True),
            ("ff15::1", False),
            ("ff3e:20::1", False),
        ):
            self.assertEqual(is_source_specific(group), wanted, group)


class Choices(SynchronousTestCase):
    def test_what_is_sent(self) -> None:
        for choices, is_private, wanted in (
            ({}, False, True),
            ({}, True, False),
            ({"enabled": True}, True, False),
            ({"open_to_everybody": True}, True, False),
            ({"enabled": True, "open_to_everybody": True}, True, True),
            ({"enabled": False}, False, False),
            ({"renditions": {"source": False}}, False, False),
            ({"renditions": {"720p": False}}, False, True),
            ({"enabled": False, "renditions": {"source": True}}, False, False),
        ):
            with self.subTest(choices=choices, is_private=is_private):
                self.assertEqual(MulticastChoices(**choices).wants("source", is_private), wanted)
