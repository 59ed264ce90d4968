"""The send time as aiortc reads it."""

from unittest import TestCase

from aiortc import rtp

from oxidecast.outputs.webrtc.negotiation import SEND_TIME
from oxidecast.outputs.webrtc.send_time import SIZE, SendTime


class TestSendTime(TestCase):
    def test_it_is_24_bits_with_18_behind_the_point(self) -> None:
        extensions = rtp.HeaderExtensionsMap()
        extensions._HeaderExtensionsMap__ids.abs_send_time = 3  # type: ignore[attr-defined]
        for now, expected in ((0.0, 0), (1.5, 0x60000), (64.25, 0x10000), (1_800_000_000.75, 0x30000)):
            data = SendTime(3).at(now)
            self.assertEqual(len(data), SIZE)
            profile = int.from_bytes(data[:2], "big")
            values = extensions.get(profile, data[4:])
            self.assertEqual(values.abs_send_time, expected)

    def test_its_name(self) -> None:
        self.assertTrue(SEND_TIME.endswith("/abs-send-time"))
