from twisted.internet.defer import Deferred
from zope.interface import directlyProvides, implementer

from oxidecast.interfaces import (
    IAuthenticator,
    IEventListener,
    IHearsRefusals,
    IOutput,
    PlayRequest,
    PublishRefusal,
    PublishRequest,
    Refused,
    Unconvinced,
)
from oxidecast.registry import SLOW_CALLS_ALLOWED
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.stream import Stream
from tests.streams.stage import Encoder, HubCase, Keys, Listener, WatchingOutput, info


class TestPublish(HubCase):
    def test_the_next_authenticator_is_asked_for_an_unknown_key(self) -> None:
        self.add("more", IAuthenticator, Keys(info("third")))
        Encoder(self, key="key-of-third").start().send(1)
        self.assertIsNotNone(self.hub.find("third"))

    def test_a_stopped_stream_refuses_its_key(self) -> None:
        self.keys.infos["key-of-show"] = info("show", accepts_publishing=False)
        self.assertEqual(self.refused(), "stopped")
        self.assertEqual(self.hub.streams, {})

    def test_an_authenticator_that_raises_opens_nothing_and_is_counted(self) -> None:
        self.keys.error = RuntimeError("broken")
        self.assertEqual(self.refused(), "bad_key")
        self.assertEqual(self.registry.running[0].faults, 1)
        self.flushLoggedErrors(RuntimeError)

    def test_a_refusal_is_handed_on(self) -> None:
        self.keys.error = Refused("account_disabled", "The account is disabled.")
        self.assertEqual(self.refused(), "account_disabled")

    def test_a_connection_lost_while_deciding_is_no_fault_of_the_plugin(self) -> None:
        self.keys.waiting = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        asking = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        asking.addErrback(lambda failure: None)
        asking.cancel()
        self.assertEqual((self.registry.running[0].faults, self.hub.streams), (0, {}))

    def test_two_keys_at_once_are_decided_in_any_order(self) -> None:
        self.keys.waiting = waiting = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        first, second = Encoder(self), Encoder(self)
        asked = [Deferred.fromCoroutine(self.hub.publish(request, one)) for one in (first, second)]
        waiting.callback(None)
        for one in asked:
            self.successResultOf(one)
        self.assertEqual((first.stopped, second.stopped), (["replaced"], []))
        self.assertEqual(len(self.hub.streams), 1)

    def test_a_key_accepted_after_the_shutdown_began_is_refused(self) -> None:
        self.keys.waiting = waiting = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        asked = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        self.hub.close()
        waiting.callback(None)
        self.assertEqual(self.failureResultOf(asked, Refused).value.code, "shutting_down")

    def test_no_repr_holds_the_key(self) -> None:
        request = PublishRequest(protocol="test", address="192.0.2.1", key="very-secret")
        self.assertNotIn("very-secret", repr(request))
        self.assertNotIn("very-secret", repr(PlayRequest(protocol="t", address="a", token="very-secret")))


class TestPlay(HubCase):
    def play(self, token: str = "", private: bool = True) -> str:
        request = PlayRequest(protocol="test", address="192.0.2.1", token=token)
        asked = Deferred.fromCoroutine(self.hub.authorise(info(is_private=private), request))
        results: list[object] = []
        asked.addErrback(lambda failure: failure.value.code).addBoth(results.append)
        return str(results[0])

    def test_a_public_stream_plays_for_anybody(self) -> None:
        self.assertEqual(self.play(private=False), "None")

    def test_a_private_stream_plays_for_who_has_a_token(self) -> None:
        self.assertEqual(self.play("good"), "None")
        self.assertEqual(self.play("bad"), "private")

    def test_any_authenticator_may_object(self) -> None:
        banning = Keys()
        banning.error = Refused("banned", "No.")
        self.add("banning", IAuthenticator, banning)
        self.assertEqual(self.play("good"), "banned")
        self.assertEqual(self.play(private=False), "banned")

    def test_one_that_is_unconvinced_says_why_when_nobody_says_yes(self) -> None:
        doubting = Keys()
        doubting.error = Unconvinced("token_expired", "The token has expired.")
        self.add("doubting", IAuthenticator, doubting)
        self.assertEqual((self.play("good"), self.play("bad")), ("None", "token_expired"))
        self.assertEqual(self.play("bad", private=False), "None")

    def test_one_that_raises_opens_nothing(self) -> None:
        self.keys.error = RuntimeError("broken")
        self.assertEqual(self.play("good"), "private")
        self.flushLoggedErrors(RuntimeError)


class TestContainment(HubCase):
    """An output that misbehaves is out of the stream; the stream and its other outputs go on."""

    def with_broken(self, *broken: str) -> WatchingOutput:
        output = WatchingOutput(*broken)
        self.add("broken", IOutput, output)
        self.encoder = self.live()
        return output

    def states(self, stream: Stream | None = None) -> dict[str, str]:
        return {slot.name: slot.state for slot in (stream or self.stream).outputs}

    def assertGoesOn(self, faults: int = 1) -> None:
        count = len(self.reader.packets)
        self.encoder.send(30)
        self.assertGreater(len(self.reader.packets), count)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), faults)

    def test_open(self) -> None:
        self.with_broken("open")
        self.assertEqual(self.states(), {"watching": "running", "broken": "failed"})
        self.assertGoesOn()

    def test_rendition_added_takes_its_subscription_along(self) -> None:
        output = self.with_broken("rendition_added")
        self.assertEqual(self.states()["broken"], "failed")
        self.assertGoesOn()
        self.assertEqual(output.opened[0].reader.packets, [])
        self.assertEqual(output.opened[0].calls, ["rendition_added", "closed"])

    def test_packet(self) -> None:
        output = self.with_broken("packet")
        self.assertEqual(self.states()["broken"], "failed")
        self.assertGoesOn()
        self.assertEqual(len(output.opened[0].reader.packets), 1)

    def test_urls(self) -> None:
        self.with_broken("urls")
        slot = self.stream.outputs[1]
        self.assertEqual(slot.urls(), {})
        self.assertEqual((slot.state, slot.urls()), ("failed", {}))
        self.assertGoesOn()

    def test_stats(self) -> None:
        self.with_broken("stats")
        self.assertEqual(self.stream.outputs[1].stats(), {})
        self.assertGoesOn()

    def test_closed_is_called_once(self) -> None:
        output = self.with_broken("closed")
        stream = self.stream
        stream.end("over")
        self.assertEqual(output.opened[0].calls, ["rendition_added", "closed"])
        self.assertEqual(self.reader.words, ["ended: over"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_that_declines_is_only_that(self) -> None:
        self.with_broken("decline")
        self.assertEqual(self.states()["broken"], "declined")
        self.assertEqual((self.stream.outputs[1].urls(), self.stream.outputs[1].stats()), ({}, {}))
        self.assertGoesOn(0)

    def test_answers_of_a_wrong_type_are_none(self) -> None:
        output = self.with_broken()
        output.opened[0].urls = lambda rendition: ["not", "a", "mapping"]  # type: ignore
        output.opened[0].stats = lambda: 5  # type: ignore
        self.assertEqual((self.stream.outputs[1].urls(), self.stream.outputs[1].stats()), ({}, {}))

    def test_the_reason_shown_holds_nothing_of_the_exception(self) -> None:
        self.with_broken("open")
        self.assertEqual(
            self.stream.outputs[1].error, "the output broken failed and was taken out of this stream"
        )
        self.flushLoggedErrors(RuntimeError)

    def test_a_fault_in_one_stream_leaves_the_outputs_other_streams_alone(self) -> None:
        output = self.with_broken()
        Encoder(self, key="key-of-other").start().send(1)
        output.opened[0].reader._act = lambda packet: 1 / 0  # type: ignore[assignment]
        self.encoder.send(1)
        other = self.hub.find("other")
        assert other is not None
        self.assertEqual((self.states()["broken"], self.states(other)["broken"]), ("failed", "running"))
        self.flushLoggedErrors(ZeroDivisionError)

    def test_an_output_that_keeps_the_reactor_is_detached_from_every_stream(self) -> None:
        output = self.with_broken()
        Encoder(self, key="key-of-other").start().send(1)
        output.opened[0].reader._act = lambda packet: self.clock.advance(0.2)
        self.encoder.send(SLOW_CALLS_ALLOWED)
        other = self.hub.find("other")
        assert other is not None
        self.assertEqual((self.states()["broken"], self.states(other)["broken"]), ("failed", "failed"))
        count = len(output.opened[0].reader.packets)
        self.assertGoesOn(0)
        self.assertEqual(len(output.opened[0].reader.packets), count)
        self.assertEqual(self.states()["watching"], "running")

    def test_a_detached_output_is_not_asked_for_new_streams(self) -> None:
        output = WatchingOutput()
        running = self.add("broken", IOutput, output)
        running.fail("it was slow")
        self.live()
        self.assertEqual(output.opened, [])

    def test_a_listener_that_raises_does_not_keep_news_from_the_next(self) -> None:
        class Broken(Listener):
            def stream_started(self, stream: object) -> None:
                raise RuntimeError("broken")

        self.registry.running.insert(0, self.add("first", IEventListener, Broken()))
        self.live()
        self.assertEqual(self.listener.heard, ["started show"])
        self.flushLoggedErrors(RuntimeError)


@implementer(IEventListener, IHearsRefusals)
class HearsRefusals(Listener):
    """A listener that hears of the refused, too."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[PublishRefusal] = []

    def publish_refused(self, refusal: PublishRefusal) -> None:
        self.refusals.append(refusal)


@implementer(IAuthenticator)
class Asked(Keys):
    """Notes which stream it is told of; refuses when `refuses`."""

    def __init__(self, *infos: StreamInfo) -> None:
        super().__init__(*infos)
        self.told: list[str | None] = []
        self.refuses = False

    async def may_publish(self, request: PublishRequest) -> StreamInfo | None:
        self.told.append(request.stream.name if request.stream is not None else None)
        if self.refuses:
            raise Refused("vetoed", "Not today.")
        return await super().may_publish(request)


class TestSeveralAuthenticators(HubCase):
    """Each can refuse; the first that knows the key says which stream it is."""

    def setUp(self) -> None:
        super().setUp()
        self.second = Asked(info("third"))
        self.add("second", IAuthenticator, self.second)

    def test_one_can_refuse_a_key_that_another_knows(self) -> None:
        self.second.refuses = True
        self.assertEqual(self.refused(), "vetoed")
        self.assertEqual(self.hub.streams, {})

    def test_a_known_key_that_one_refuses_is_no_guess(self) -> None:
        class Guard:
            codes: list[str | None] = []

            def asked(self, request: PublishRequest) -> None: ...

            def answered(self, request: PublishRequest, code: str | None) -> None:
                self.codes.append(code)

        self.hub.guard = Guard()
        self.second.refuses = True
        self.refused()
        self.refused("key-of-nobody")
        self.assertEqual(Guard.codes, [None, "vetoed"])

    def test_it_is_told_which_stream_the_key_belongs_to(self) -> None:
        self.live()
        self.refused("key-of-nobody")
        self.assertEqual(self.second.told, ["show", None])

    def test_the_first_that_knows_it_wins(self) -> None:
        self.second.infos["key-of-show"] = info("third")
        self.live()
        self.assertEqual([stream.name for stream in self.hub.streams.values()], ["show"])

    def test_a_key_that_is_revoked_while_another_thinks_does_not_publish(self) -> None:
        self.second.waiting = thinking = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        asked = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        del self.keys.infos["key-of-show"]
        thinking.callback(None)
        self.assertEqual(self.failureResultOf(asked, Refused).value.code, "bad_key")

    def test_a_stream_that_is_stopped_meanwhile_does_not_start(self) -> None:
        self.second.waiting = thinking = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        asked = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        self.keys.infos["key-of-show"] = info("show", accepts_publishing=False)
        thinking.callback(None)
        self.assertEqual(self.failureResultOf(asked, Refused).value.code, "stopped")

    def test_a_listener_that_is_an_authenticator_as_well_is_asked(self) -> None:
        class Both(Asked, Listener):
            def __init__(self) -> None:
                Asked.__init__(self)
                self.heard: list[str] = []

        both = Both()
        directlyProvides(both, IAuthenticator, IEventListener)
        self.add("both", IEventListener, both)
        self.live()
        self.assertEqual((both.told, both.heard), (["show"], ["started show"]))


class TestRefusals(HubCase):
    def setUp(self) -> None:
        super().setUp()
        self.hearing = HearsRefusals()
        self.add("hearing", IEventListener, self.hearing)

    def test_who_wants_to_hears_of_them(self) -> None:
        self.refused("key-of-nobody")
        (refusal,) = self.hearing.refusals
        self.assertEqual(
            (refusal.protocol, refusal.address, refusal.code, refusal.stream),
            ("test", "192.0.2.1", "bad_key", None),
        )
        self.assertNotIn("key-of-nobody", repr(refusal))

    def test_the_stream_is_named_when_the_key_belongs_to_one(self) -> None:
        self.keys.infos["key-of-show"] = info("show", accepts_publishing=False)
        self.refused()
        self.assertEqual(
            (self.hearing.refusals[0].code, self.hearing.refusals[0].stream.name), ("stopped", "show")
        )

    def test_those_who_do_not_want_to_are_left_alone(self) -> None:
        self.refused("key-of-nobody")
        self.assertEqual(self.listener.heard, [])
        self.assertEqual([running.faults for running in self.registry.running], [0] * 4)

    def test_a_listener_that_raises_keeps_nothing_from_anybody(self) -> None:
        class Broken(HearsRefusals):
            def publish_refused(self, refusal: PublishRefusal) -> None:
                raise RuntimeError("broken")

        self.registry.running.insert(0, self.add("broken", IEventListener, Broken()))
        self.assertEqual(self.refused("key-of-nobody"), "bad_key")
        self.assertEqual(len(self.hearing.refusals), 1)
        self.flushLoggedErrors(RuntimeError)

    def test_an_encoder_that_went_away_while_it_was_decided_was_not_refused(self) -> None:
        self.keys.waiting = Deferred()
        request = PublishRequest(protocol="test", address="192.0.2.1", key="key-of-show")
        asking = Deferred.fromCoroutine(self.hub.publish(request, Encoder(self)))
        asking.addErrback(lambda failure: None)
        asking.cancel()
        self.assertEqual(self.hearing.refusals, [])
