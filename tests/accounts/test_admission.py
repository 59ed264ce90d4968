"""Classes of what may be done how often."""

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.accounts.admission import CLASSES, Admission
from oxidecast.settings.sections import RateLimitSettings

HOME, OTHER = "192.0.2.1", "198.51.100.1"


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.settings = RateLimitSettings(api_burst=3, api_rate=0.5, auth_burst=1, exempt=("10.0.0.0/8",))
        self.admission = Admission(self.clock, self.settings)

    def taken(self, kind: str = "api", address: str = HOME, user: str | None = None) -> int:
        """How many pass at once."""
        count = 0
        while count < 1000 and self.admission.take(kind, address, user) == 0:
            count += 1
        return count

    def test_a_burst_and_then_a_rate(self) -> None:
        self.assertEqual(self.taken(), 3)
        self.assertEqual(self.admission.take("api", HOME), 2)
        self.clock.advance(2)
        self.assertEqual(self.taken(), 1)

    def test_what_is_told_to_wait_is_whole_seconds_that_are_enough(self) -> None:
        self.taken()
        self.clock.advance(0.3)
        wait = self.admission.take("api", HOME)
        self.clock.advance(wait)
        self.assertEqual(self.admission.take("api", HOME), 0)

    def test_classes_networks_and_users_do_not_share(self) -> None:
        self.assertEqual(self.taken(), 3)
        self.assertEqual(self.taken("auth"), 1)
        self.assertEqual(self.taken(address=OTHER), 3)
        self.assertEqual(self.taken(user="ada"), 3)
        self.assertEqual(self.taken(user="bob"), 3)

    def test_a_user_is_one_wherever_it_calls_from(self) -> None:
        self.assertEqual(self.taken(user="ada"), 3)
        self.assertEqual(self.taken(address=OTHER, user="ada"), 0)

    def test_an_ipv6_subscriber_is_one(self) -> None:
        self.assertEqual(self.taken(address="2001:db8::1"), 3)
        self.assertEqual(self.taken(address="2001:db8::ffff:2"), 0)
        self.assertEqual(self.taken(address="2001:db8:0:1::1"), 3)

    def test_exempt_networks_are_never_told_to_wait(self) -> None:
        self.assertEqual(self.taken(address="10.1.2.3"), 1000)
        self.assertEqual(self.taken(address="::ffff:10.1.2.3", user="ada"), 1000)
        self.assertEqual(RateLimitSettings().exempt, ())

    def test_without_a_burst_there_is_no_limit(self) -> None:
        self.assertFalse(self.admission.limits("media"))
        self.assertEqual(self.taken("media"), 1000)

    def test_every_class_but_media_has_a_limit_by_default(self) -> None:
        admission = Admission(self.clock, RateLimitSettings())
        self.assertEqual([kind for kind in CLASSES if not admission.limits(kind)], ["media"])

    def test_what_was_limited_is_counted(self) -> None:
        self.taken()
        self.taken("auth")
        self.admission.take("auth", HOME)
        self.assertEqual(self.admission.limited, {**dict.fromkeys(CLASSES, 0), "api": 1, "auth": 2})

    def test_a_reload_keeps_what_did_not_change(self) -> None:
        self.taken("api")
        self.taken("auth")
        self.admission.reload(msgspec.structs.replace(self.settings, api_burst=5, media_burst=1, exempt=()))
        self.assertEqual((self.taken("api"), self.taken("auth"), self.taken("media")), (5, 0, 1))
        self.assertEqual(self.taken(address="10.1.2.3"), 5)

    def test_a_token_that_is_given_back(self) -> None:
        self.taken()
        self.admission.give_back("api", HOME)
        self.assertEqual(self.taken(), 1)
        for _ in range(10):
            self.admission.give_back("api", HOME)
            self.admission.give_back("media", HOME)
        self.assertEqual(self.taken(), 3)
