"""Header extensions, taken apart by hand: what they say, and that they are whole words."""

from unittest import TestCase

from aiortc import rtp

from oxidecast.outputs.webrtc.extensions import PLAYOUT_DELAY, SEND_TIME, SIZE, Extensions


class TestExtensions(TestCase):
    def elements(self, data: bytes) -> dict[int, bytes]:
        self.assertLessEqual(len(data), SIZE)
        self.assertEqual(len(data), 4 + 4 * int.from_bytes(data[2:4], "big"))
        return dict(rtp.unpack_header_extensions(int.from_bytes(data[:2], "big"), data[4:]))

    def test_the_send_time_is_24_bits_with_18_behind_the_point(self) -> None:
        extensions = Extensions(((3, SEND_TIME),))
        for now, expected in ((0.0, 0), (1.5, 0x60000), (64.25, 0x10000), (1_800_000_000.75, 0x30000)):
            found = self.elements(extensions.at(now, 0.2))
            self.assertEqual(found, {3: expected.to_bytes(3, "big")})

    def test_the_delay_is_in_hundredths(self) -> None:
        extensions = Extensions(((14, PLAYOUT_DELAY), (1, SEND_TIME)))
        found = self.elements(extensions.at(1.5, 0.25))
        self.assertEqual(found, {1: b"\x06\0\0", 14: b"\x01\x9f\xff"})
        self.assertEqual(list(self.elements(extensions.at(1.5, None))), [1])
        self.assertEqual(self.elements(extensions.at(1.5, 1000.0))[14], b"\xff\xff\xff")

    def test_nothing_to_say(self) -> None:
        self.assertEqual(Extensions(()).at(1.5, 0.2), b"")
        self.assertEqual(Extensions(((2, PLAYOUT_DELAY),)).at(1.5, None), b"")
