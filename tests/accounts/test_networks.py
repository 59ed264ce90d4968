from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.networks import is_within, parse_networks


class Parsing(SynchronousTestCase):
    def test_networks_and_addresses_as_they_are_spelt(self) -> None:
        given = ["203.0.113.0/24", "192.0.2.7", "2001:DB8::/32", "::1", "203.0.113.0/255.255.255.0"]
        self.assertEqual(
            parse_networks(given), ("203.0.113.0/24", "192.0.2.7/32", "2001:db8::/32", "::1/128")
        )

    def test_ipv4_inside_ipv6_is_ipv4(self) -> None:
        self.assertEqual(
            parse_networks(["::ffff:192.0.2.7", "::ffff:192.0.2.0/120"]), ("192.0.2.7/32", "192.0.2.0/24")
        )

    def test_what_is_none_is_said_so(self) -> None:
        for text, words in (
            ("studio", "no address and no network"),
            ("", "no address and no network"),
            ("192.0.2.0/33", "no address and no network"),
            ("192.0.2.7/24", "the network is 192.0.2.0/24"),
            ("fe80::1%eth0", "names an interface"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                parse_networks([text])

    @given(st.text(alphabet="0123456789abcdef.:/%xg \0-", max_size=50) | st.text(max_size=50))
    def test_any_text_is_a_network_or_a_sentence(self, text: str) -> None:
        try:
            networks = parse_networks([text])
        except ValueError as error:
            self.assertIn(repr(text), str(error))
            return
        self.assertEqual(parse_networks(networks), networks)
        self.assertTrue(is_within(str(ip_network(networks[0]).network_address), networks))


class Within(SynchronousTestCase):
    def test_addresses_of_both_kinds(self) -> None:
        networks = parse_networks(["203.0.113.0/24", "2001:db8::/32", "fe80::/10"])
        for address in (
            "203.0.113.9",
            "::ffff:203.0.113.9",
            "2001:db8:1::1",
            "fe80::1%eth0",
        ):
            self.assertTrue(is_within(address, networks), address)
        for other in ("203.0.114.1", "::ffff:203.0.114.1", "2001:db9::1", "", "localhost", None):
            self.assertFalse(is_within(other, networks), other)

    @given(st.text(max_size=60))
    def test_any_text_is_within_or_not(self, text: str) -> None:
        is_within(text, ["203.0.113.0/24", "::/0"])
