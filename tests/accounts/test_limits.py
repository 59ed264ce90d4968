from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.limits import TokenBuckets, network_of, site_of


class Buckets(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.buckets = TokenBuckets(self.clock, burst=2, refill=10.0, maximum=3)

    def test_a_burst_passes_and_then_one_each_interval(self) -> None:
        for _ in range(2):
            self.assertEqual(self.buckets.wait("a"), 0.0)
            self.buckets.take("a")
        self.assertEqual(self.buckets.wait("a"), 10.0)
        self.clock.advance(4)
        self.assertEqual(self.buckets.wait("a"), 6.0)
        self.clock.advance(6)
        self.assertEqual(self.buckets.wait("a"), 0.0)

    def test_a_bucket_never_holds_more_than_its_burst(self) -> None:
        self.buckets.take("a")
        self.clock.advance(1e9)
        for _ in range(2):
            self.buckets.take("a")
        self.assertGreater(self.buckets.wait("a"), 0.0)

    def test_keys_do_not_share(self) -> None:
        for _ in range(2):
            self.buckets.take("a")
        self.assertEqual(self.buckets.wait("b"), 0.0)

    def test_memory_is_bounded(self) -> None:
        for number in range(1000):
            self.buckets.take(number)
        self.assertEqual(len(self.buckets), 3)

    def test_asking_takes_no_memory(self) -> None:
        self.buckets.wait("a")
        self.assertEqual(len(self.buckets), 0)

    def test_a_clock_that_goes_back_empties_nothing(self) -> None:
        self.clock.advance(100)
        self.buckets.take("a")
        self.clock.rightNow = 0.0
        self.assertEqual(self.buckets.wait("a"), 0.0)


class Networks(SynchronousTestCase):
    def test_networks(self) -> None:
        for address, network in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("unix socket", "unix socket"),
        ):
            self.assertEqual(network_of(address), network)

    def test_sites(self) -> None:
        for address, site in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("unix socket", "unix socket"),
        ):
            self.assertEqual(site_of(address), site)

    def test_other_numbers_forget_nobody(self) -> None:
        clock = Clock()
        buckets = TokenBuckets(clock, 2, 10.0)
        buckets.take("a")
        buckets.take("a")
        buckets.limit(4, 20.0)
        self.assertEqual((buckets.wait("a"), buckets.wait("b")), (20.0, 0.0))
