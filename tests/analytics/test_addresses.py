"""How much is kept of an address."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.analytics.addresses import kept, network


class Addresses(SynchronousTestCase):
    def test_as_it_is_set(self) -> None:
        for address, full, cut in (
            ("192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1:2::3", "2001:db8:1::/48"),
            ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
            ("fe80::1%eth0", "fe80::1", "fe80::/48"),
        ):
            self.assertEqual((kept(address, "full"), kept(address, "network")), (full, cut))
            self.assertIsNone(kept(address, "none"))

    def test_what_is_none(self) -> None:
        for text in ("", "nonsense", "/run/socket", "192.0.2.256", "[::1]"):
            self.assertEqual((kept(text, "full"), kept(text, "network"), network(text)), (None,) * 3)
        self.assertIsNone(network(None))

    def test_what_was_cut_before_stays(self) -> None:
        for text in ("192.0.2.0/24", "2001:db8:1::/48"):
            self.assertEqual(network(text), text)
        self.assertEqual(network("10.0.0.0/8"), "10.0.0.0/8")

    @given(st.one_of(st.text(max_size=60), st.ip_addresses().map(str)))
    def test_whatever_comes(self, text: str) -> None:
        for how in ("full", "network", "none"):
            found = kept(text, how)  # type: ignore[arg-type]
            if found is not None:
                ip_network(found, strict=False)
                self.assertIn(network(found), (kept(text, "network"), found))
