"""Which addresses may be posted to."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.webhooks.addresses import refusal

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8")
PRIVATE = (
    "127.0.0.1",
    "127.255.255.254",
    "::1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",  # carrier-grade NAT
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "64:ff9b:1::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "2002:a00:1::1",
    "2002:7f00:1::1",
)
NEVER = (
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
    "224.0.0.1",
    "239.255.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
)


class Addresses(SynchronousTestCase):
    def test_public_addresses_are_open(self) -> None:
        for address in PUBLIC:
            self.assertIsNone(refusal(address, False), address)
            self.assertIsNone(refusal(address, True), address)

    def test_private_ones_only_where_that_is_allowed(self) -> None:
        for address in PRIVATE:
            self.assertIsNotNone(refusal(address, False), address)
            self.assertIsNone(refusal(address, True), address)

    def test_metadata_and_what_is_no_host_never(self) -> None:
        for address in NEVER:
            self.assertIsNotNone(refusal(address, False), address)
            self.assertIsNotNone(refusal(address, True), address)

    @given(st.text(max_size=50))
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        if ":" not in text and "." not in text:
            self.assertEqual(refusal(text, True), "is no IP address")

    @given(st.ip_addresses())
    def test_what_is_closed_with_private_allowed_is_closed_without(self, address: object) -> None:
        if refusal(str(address), True) is not None:
            self.assertIsNotNone(refusal(str(address), False))

    @given(st.ip_addresses(v=4))
    def test_an_address_behind_a_prefix_is_as_open_as_itself(self, address: object) -> None:
        self.assertEqual(refusal(f"::ffff:{address}", False), refusal(str(address), False))
        self.assertEqual(refusal(f"64:ff9b::{address}", False), refusal(str(address), False))
