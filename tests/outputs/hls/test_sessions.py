from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.outputs.hls import sessions as module
from oxidecast.outputs.hls.sessions import LEFT_AFTER, Sessions


class FakeStream:
    def __init__(self, id: str = "one") -> None:
        self.id = id
        self.info = SimpleNamespace(is_private=False)
        self.started_at = 1000.0
        self.watching: set[int] = set()
        self.viewers: dict[str, Any] = {}
        self.joined = 0
        self.counted: list[Any] = []
        self.left: list[float | None] = []

    def viewer(self, output: str, address: str) -> Any:
        self.joined += 1
        number = self.joined
        self.watching.add(number)

        def leave(at: float | None = None) -> None:
            self.watching.discard(number)
            self.left.append(at)

        viewer = SimpleNamespace(address=address, leave=leave, rendition="", bytes_sent=0)
        self.counted.append(viewer)
        return viewer


class TestSessions(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.stream = FakeStream()
        self.sessions = self.make()

    def make(self, stream: Any = None, secret: bytes = b"s" * 32) -> Sessions:
        return Sessions(stream or self.stream, secret, self.clock.seconds)

    def test_what_was_made_is_valid_and_costs_nothing(self) -> None:
        for _ in range(1000):
            self.assertTrue(self.sessions.valid(self.sessions.new(), "192.0.2.1"))
        self.assertEqual((self.stream.joined, self.sessions._viewers), (0, {}))

    def test_who_joined_is_not_counted_again_until_it_is_heard_of_no_more(self) -> None:
        self.stream.viewers["viewer-id"] = None
        session = self.sessions.new("viewer-id")
        self.assertTrue(self.sessions.valid(session, "192.0.2.1"))
        self.sessions.seen(session, "192.0.2.1")
        self.assertEqual(self.stream.joined, 0)
        del self.stream.viewers["viewer-id"]
        self.sessions.seen(session, "192.0.2.1")
        self.assertEqual(self.stream.joined, 1)

    def test_who_only_says_to_have_joined_is_like_everybody(self) -> None:
        session = self.sessions.new("../viewer")
        self.assertNotIn("viewer", session)
        self.sessions.seen(session, "192.0.2.1")
        self.assertEqual(self.stream.joined, 1)

    def test_it_is_valid_after_a_restart_of_the_server(self) -> None:
        self.assertTrue(self.make().valid(self.sessions.new(), "192.0.2.1"))

    def test_one_of_a_private_stream_ends_with_its_broadcast(self) -> None:
        self.stream.info.is_private = True
        session = self.sessions.new()
        self.assertTrue(self.sessions.valid(session, "192.0.2.1"))
        self.sessions.seen(session, "192.0.2.1")
        self.stream.started_at += 60
        self.assertFalse(self.sessions.valid(session, "192.0.2.1"))

    def test_one_from_when_the_stream_was_public_does_not_open_the_private_one(self) -> None:
        session = self.sessions.new()
        self.sessions.seen(session, "192.0.2.1")
        self.stream.info.is_private = True
        self.assertFalse(self.sessions.valid(session, "192.0.2.1"))

    def test_one_that_is_for_an_address_opens_nothing_for_another(self) -> None:
        session = self.sessions.new(only_for="2001:db8::1")
        self.sessions.seen(session, "2001:db8::1")
        self.assertTrue(self.sessions.valid(session, "2001:db8::2"), "the same network")
        for address in ("2001:db8:0:1::1", "192.0.2.1"):
            self.assertFalse(self.sessions.valid(session, address), address)
        self.assertFalse(self.sessions.valid(f"{session[:-1]}0", "192.0.2.1"))

    def test_one_network_counts_only_so_many(self) -> None:
        self.patch(module, "MOST_OF_ADDRESS", 3)
        for _ in range(5):
            self.sessions.seen(self.sessions.new(), "192.0.2.1")
        self.sessions.seen(self.sessions.new(), "192.0.2.2")
        self.assertEqual(self.stream.joined, 4)
        self.clock.advance(LEFT_AFTER + 1)
        self.sessions.sweep()
        self.assertEqual(self.sessions._from, {})
        self.sessions.seen(self.sessions.new(), "192.0.2.1")
        self.assertEqual(self.stream.joined, 5)

    def test_forged_ones_are_not(self) -> None:
        session = self.sessions.new()
        self.assertFalse(self.make(FakeStream("another")).valid(session, "192.0.2.1"))
        self.assertFalse(self.make(secret=b"t" * 32).valid(session, "192.0.2.1"))
        for forged in (
            "",
            "x",
            session[:-1],
            session[1:],
            session.upper(),
            session + "0",
            "é" * 24,
            session[:-12],
        ):
            self.assertFalse(self.sessions.valid(forged, "192.0.2.1"), forged)

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=60))
    def test_any_text_is_answered(self, text: str) -> None:
        self.assertFalse(self.sessions.valid(text, "192.0.2.1"))

    def test_a_viewer_is_counted_once(self) -> None:
        session = self.sessions.new()
        for _ in range(10):
            self.sessions.seen(session, "192.0.2.1")
        self.assertEqual((self.stream.joined, len(self.stream.watching)), (1, 1))

    def test_who_polls_stays_and_who_does_not_leaves(self) -> None:
        stays, leaves = self.sessions.new(), self.sessions.new()
        self.sessions.seen(stays, "a")
        self.sessions.seen(leaves, "b")
        for _ in range(4):
            self.clock.advance(LEFT_AFTER / 3)
            self.sessions.seen(stays, "a")
            self.sessions.sweep()
        self.assertEqual(len(self.stream.watching), 1)
        self.sessions.seen(leaves, "b")
        self.assertEqual((len(self.stream.watching), self.stream.joined), (2, 3))

    def test_who_left_was_there_until_it_was_last_seen(self) -> None:
        self.clock.advance(1000)
        self.sessions.seen(self.sessions.new(), "a")
        self.clock.advance(LEFT_AFTER + 5)
        self.sessions.sweep()
        self.assertEqual(self.stream.left, [1000])

    def test_what_is_sent_is_added_up(self) -> None:
        session, uncounted = self.sessions.new(), self.sessions.new()
        self.sessions.seen(session, "a")
        for rendition, size in (("720p", 10), ("source", 5)):
            self.sessions.sent(session, rendition, size)
            self.sessions.sent(uncounted, rendition, size)
        [viewer] = self.stream.counted
        self.assertEqual((viewer.rendition, viewer.bytes_sent), ("source", 15))

    def test_what_is_sent_to_who_joined(self) -> None:
        joined = self.stream.viewers["me"] = SimpleNamespace(rendition="", bytes_sent=0)
        self.sessions.sent(self.sessions.new("me"), "source", 7)
        self.assertEqual((joined.rendition, joined.bytes_sent), ("source", 7))

    def test_after_the_end_nobody_is_counted(self) -> None:
        session = self.sessions.new()
        self.sessions.seen(session, "a")
        self.sessions.close()
        self.sessions.seen(session, "a")
        self.assertEqual((self.stream.watching, self.stream.joined), (set(), 1))
        self.assertTrue(self.sessions.valid(session, "192.0.2.1"))

    def test_they_are_bounded(self) -> None:
        self.patch(module, "MOST", 10)
        for _ in range(20):
            self.sessions.seen(self.sessions.new(), "a")
        self.assertEqual(len(self.stream.watching), 10)
