"""Who wants a rendition: counted, told to those who follow the stream, and waited for."""

from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from oxidecast.interfaces import IEventListener, IFollowsStreams
from oxidecast.media import Codec
from oxidecast.streams.wanting import RenditionSpec
from tests.streams.stage import VIDEO, HubCase, Listener, planned

SPEC = RenditionSpec("720p")


@implementer(IEventListener, IFollowsStreams)
class Follower(Listener):
    def stream_changed(self, stream: Any) -> None:
        self.heard.append(f"wants {sorted(spec.name for spec in stream.wanted)}")


class WantingTests(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.follower = Follower()
        self.add("follower", IEventListener, self.follower)
        self.live()
        self.follower.heard.clear()

    def test_the_first_and_the_last_are_told_of(self) -> None:
        first, second = self.stream.want(SPEC), self.stream.want(SPEC)
        first.release()
        first.release()
        self.assertEqual(self.follower.heard, ["wants ['720p']"])
        second.release()
        self.assertEqual(self.follower.heard, ["wants ['720p']", "wants []"])

    def test_it_comes(self) -> None:
        waiting = self.stream.want(SPEC).rendition(5)
        self.assertNoResult(waiting)
        made = self.stream.add_rendition("720p", (VIDEO,))
        self.assertIs(self.successResultOf(waiting), made)
        self.assertIs(self.successResultOf(self.stream.want(SPEC).rendition(5)), made)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_does_not_come(self) -> None:
        waiting = self.stream.want(SPEC).rendition(5)
        self.clock.advance(5)
        self.assertIsNone(self.successResultOf(waiting))
        self.stream.add_rendition("720p", (VIDEO,))

    def test_who_waits_goes_away(self) -> None:
        left, stays = self.stream.want(SPEC).rendition(5), self.stream.want(SPEC).rendition(5)
        left.cancel()
        self.failureResultOf(left, CancelledError)
        made = self.stream.add_rendition("720p", (VIDEO,))
        self.assertIs(self.successResultOf(stays), made)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_waits_goes_away_and_nothing_comes(self) -> None:
        left = self.stream.want(SPEC).rendition(5)
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.clock.advance(5)
        self.stream.plan({}, "the server is full")
        self.stream.end("over")

    def test_the_stream_ends_meanwhile(self) -> None:
        want = self.stream.want(SPEC)
        waiting, stream = want.rendition(5), self.stream
        stream.end("over")
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(want.rendition(5)))
        want.release()

    def test_nobody_waits_for_what_cannot_be_made(self) -> None:
        want, sound = self.stream.want(SPEC), self.stream.want(RenditionSpec())
        waiting, listening = want.rendition(5), sound.rendition(5)
        self.stream.plan({}, "the server is full")
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(want.rendition(5)))
        self.assertNoResult(listening)
        # It may be later.
        self.stream.plan({})
        waiting = want.rendition(5)
        made = self.stream.add_rendition("720p", (VIDEO,))
        self.assertIs(self.successResultOf(waiting), made)
        self.stream.end("over")

    def test_nobody_waits_for_what_is_not_in_the_ladder_any_more(self) -> None:
        self.stream.plan({name: planned(name) for name in ("720p", "360p")})
        specs = (SPEC, RenditionSpec("720p", True), RenditionSpec("720p", True, Codec.VP8))
        gone = [self.stream.want(spec).rendition(5) for spec in specs]
        kept = [self.stream.want(spec).rendition(5) for spec in (RenditionSpec("360p"), RenditionSpec())]
        self.stream.plan({"360p": planned("360p")})
        for waiting in gone:
            self.assertIsNone(self.successResultOf(waiting))
        for waiting in kept:
            self.assertNoResult(waiting)

    def test_why_a_quality_is_not_to_be_had(self) -> None:
        self.stream.info = msgspec.structs.replace(self.stream.info, transcoding_profiles=("720p", "360p"))
        stream = self.stream
        stream.left_out = {"720p": "the source is smaller"}
        stream.plan({"360p": planned("360p")})
        names = ("720p", "360p", "8k")
        none = "the stream has no such quality"
        self.assertEqual([stream.why_not(name) for name in names], ["the source is smaller", "", none])
        stream.left_out = {}
        stream.plan({}, "the server is full")
        full = ["the server is full", "the server is full", none]
        self.assertEqual([stream.why_not(name) for name in names], full)
        stream.end("over")
        self.assertEqual({stream.why_not(name) for name in names}, {"the stream has ended"})

    def test_what_is_not_for_everybody(self) -> None:
        name = RenditionSpec("720p", low_latency=True).name
        self.stream.add_rendition(name, (VIDEO,), listed=False)
        self.stream.remove_rendition(name, "not wanted")
        self.assertEqual(self.output.opened[0].calls, ["rendition_added"])
        self.assertEqual(
            [(one.name, one.is_listed) for one in (SPEC, RenditionSpec("720p", True), RenditionSpec())],
            [("720p", True), ("720p:live", False), ("opus", False)],
        )
