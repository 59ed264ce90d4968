from twisted.trial.unittest import SynchronousTestCase

from oxidecast.settings import difference, is_reloadable
from tests.settings.support import loaded


class Difference(SynchronousTestCase):
    def test_equal_settings_differ_in_nothing(self) -> None:
        self.assertEqual(difference(loaded(), loaded()), [])

    def test_changed_keys_are_named_with_their_section(self) -> None:
        new = loaded(
            OXIDECAST_LOGGING_LEVEL="debug",
            OXIDECAST_TRANSCODING_HARDWARE_ACCELERATION_ENABLED="true",
            OXIDECAST_TRANSCODING_PROFILES="[]",
        )
        self.assertEqual(
            difference(loaded(), new),
            ["logging.level", "transcoding.hardware_acceleration.enabled", "transcoding.profiles"],
        )

    def test_a_section_says_which_of_its_keys_reload(self) -> None:
        self.assertTrue(is_reloadable(loaded(), "logging.level"))
        self.assertFalse(is_reloadable(loaded(), "server.port"))
