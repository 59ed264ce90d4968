"""The life of a stream: from a good key to the end of the grace time."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec

from oxidecast.media import TICKS
from oxidecast.streams.publication import HELD_BYTES, HELD_PACKETS
from oxidecast.streams.stream import SILENCE, TAKEOVER_WINDOW, TAKEOVERS
from tests.streams.stage import AUDIO, MONO, PICTURE, SOUND, VIDEO, WIDE, Encoder, HubCase


class TestBeginning(HubCase):
    def test_a_wrong_key_leaves_nothing_behind(self) -> None:
        self.assertEqual(self.refused("nonsense"), "bad_key")
        self.assertEqual(self.hub.streams, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_good_key_alone_is_no_live_stream(self) -> None:
        Encoder(self).connect()
        self.assertIsNone(self.hub.find("show"))
        self.assertEqual(self.listener.heard, [])

    def test_who_leaves_before_the_first_keyframe_leaves_nothing_behind(self) -> None:
        encoder = Encoder(self).start()
        encoder.send(10, keyframes=False)
        encoder.publication.close("gone")
        self.assertEqual((self.hub.streams, self.listener.heard), ({}, []))

    def test_it_is_live_at_the_first_keyframe_when_all_tracks_are_known(self) -> None:
        encoder = Encoder(self).start()
        encoder.send(1)
        self.assertEqual(self.stream.state, "live")
        self.assertEqual(self.listener.heard, ["started show"])
        self.assertEqual(self.stream.source.tracks, (VIDEO, AUDIO))

    def test_it_is_found_by_name_and_by_id(self) -> None:
        self.live()
        self.assertIs(self.hub.find(self.stream.id), self.stream)

    def test_packets_before_the_first_keyframe_are_dropped(self) -> None:
        encoder = Encoder(self).start()
        encoder.send(5, keyframes=False)
        encoder._count = 0
        encoder.send(2)
        self.assertTrue(self.reader.packets[0].keyframe)
        self.assertTrue(self.reader.packets[0].track.is_video)
        self.assertEqual(encoder.publication.discarded, 5 + 8)

    def test_packets_of_tracks_that_nobody_described_are_dropped(self) -> None:
        encoder = Encoder(self).connect(VIDEO, expect=(True, False))
        encoder.send(10)
        self.assertEqual(self.reader.of(False), [])

    def test_what_was_announced_is_not_waited_for(self) -> None:
        encoder = Encoder(self).connect(VIDEO, expect=(True, False))
        encoder.send(1, audio=False)
        self.assertEqual(self.stream.source.tracks, (VIDEO,))

    def test_a_track_that_was_not_announced_is_waited_for_over_a_second_of_media(self) -> None:
        encoder = Encoder(self).connect(VIDEO)
        encoder.send(30, audio=False)
        self.assertIsNone(self.hub.find("show"))
        encoder.send(1, audio=False)
        self.assertEqual(self.stream.source.tracks, (VIDEO,))

    def test_what_was_held_back_while_waiting_is_all_there(self) -> None:
        encoder = Encoder(self).connect(VIDEO)
        encoder.send(31, audio=False)
        self.assertEqual(len(self.reader.of(True)), 31)
        self.assertEqual(self.stream.started_at, self.clock.seconds() - 1 - 1 / 30)

    def test_a_second_track_within_the_second_ends_the_waiting(self) -> None:
        encoder = Encoder(self).connect(VIDEO)
        encoder.send(10, audio=False)
        encoder.publication.track(AUDIO)
        encoder.send(1)
        self.assertEqual(self.stream.source.tracks, (VIDEO, AUDIO))
        self.assertEqual(len(self.reader.of(True)), 11)

    def test_a_picture_that_comes_after_held_sound_is_the_beginning(self) -> None:
        encoder = Encoder(self).connect(AUDIO)
        encoder.send(10, video=False)
        encoder.publication.track(VIDEO)
        encoder.send(1)
        self.assertTrue(self.reader.packets[0].track.is_video)

    def test_sound_alone_is_a_stream_at_once_when_announced_so(self) -> None:
        encoder = Encoder(self).connect(AUDIO, expect=(False, True))
        encoder.send(1, video=False)
        self.assertEqual(self.stream.source.tracks, (AUDIO,))

    def test_sound_alone_is_a_stream_after_a_second(self) -> None:
        encoder = Encoder(self).connect(AUDIO)
        encoder.send(32, video=False)
        self.assertEqual(self.stream.source.tracks, (AUDIO,))
        self.assertEqual(self.reader.packets[0].dts, TICKS)

    def test_an_announcement_of_nothing_is_none(self) -> None:
        encoder = Encoder(self).connect(VIDEO, AUDIO, expect=(False, False))
        encoder.send(1)
        self.assertEqual(self.stream.state, "live")

    def test_what_is_held_back_is_bounded_in_bytes(self) -> None:
        publication = Encoder(self).connect(VIDEO).publication
        for number in range(5):
            publication.packet(1, number, number, number == 0, bytes(HELD_BYTES // 4))
        self.assertEqual(self.stream.state, "live")

    def test_what_is_held_back_is_bounded_in_packets_when_time_stands_still(self) -> None:
        publication = Encoder(self).connect(VIDEO).publication
        for number in range(HELD_PACKETS + 1):
            publication.packet(1, 0, 0, number == 0, b"p")
        self.assertEqual(self.stream.state, "live")

    def test_a_publisher_without_any_track_costs_nothing(self) -> None:
        encoder = Encoder(self).connect()
        encoder.send(300)
        self.assertIsNone(self.hub.find("show"))
        self.assertEqual(encoder.publication.discarded, encoder.publication.packets)

    def test_the_first_packet_was_live_when_the_stream_started(self) -> None:
        self.live()
        first = self.reader.packets[0]
        self.assertAlmostEqual(self.stream.utc(first.dts), self.stream.started_at, places=4)


class TestGrace(HubCase):
    def test_a_publisher_that_leaves_is_waited_for(self) -> None:
        self.live().publication.close("gone")
        self.assertEqual(self.stream.state, "waiting")
        self.clock.advance(14.9)
        self.assertEqual(self.stream.state, "waiting")

    def test_after_the_grace_time_the_stream_ends_for_everybody(self) -> None:
        self.live().publication.close("gone")
        stream = self.stream
        viewer = stream.viewer("watching", "192.0.2.7")
        self.clock.advance(15)
        self.assertEqual(stream.state, "ended")
        self.assertEqual(self.hub.streams, {})
        self.assertEqual(self.reader.words, ["ended: the publisher did not come back"])
        self.assertEqual(self.output.opened[0].calls[-1], "closed")
        self.assertEqual(stream.viewer_count, 0)
        self.assertEqual(
            self.listener.heard[1:], ["joined", "left", "stopped show: the publisher did not come back"]
        )
        viewer.leave()
        self.assertEqual(self.listener.heard.count("left"), 1)

    def test_a_return_within_the_grace_time_goes_on_with_a_restart(self) -> None:
        self.live().publication.close("gone")
        stream = self.stream
        self.clock.advance(10)
        self.live(at=777)
        self.assertIs(self.stream, stream)
        self.assertEqual(stream.state, "live")
        self.assertEqual(self.reader.words, ["restarted: the publisher came back"])
        self.clock.advance(60)
        self.assertEqual(stream.state, "live")
        self.assertEqual(self.listener.heard, ["started show"])

    def test_a_return_without_a_keyframe_does_not_keep_the_stream(self) -> None:
        self.live().publication.close("gone")
        back = Encoder(self).start()
        back.send(15 * 30 + 1, keyframes=False)
        self.assertEqual(self.hub.streams, {})
        self.assertEqual(back.stopped, ["ended"])

    def test_after_the_gap_times_are_where_the_wall_clock_is(self) -> None:
        self.live().publication.close("gone")
        before = self.reader.packets[-1].dts
        self.clock.advance(10)
        now = self.clock.seconds()
        self.live(at=123_456_789)
        after = next(packet for packet in self.reader.packets if packet.dts > before + 5 * TICKS)
        self.assertAlmostEqual(self.stream.utc(after.dts), now, places=3)

    def test_times_rise_over_any_number_of_returns(self) -> None:
        encoder = self.live()
        for number in range(4):
            encoder.publication.close("gone")
            self.clock.advance(number)
            encoder = self.live(at=number * -1_000_000)
        for kind in (True, False):
            times = [packet.dts for packet in self.reader.of(kind)]
            self.assertEqual(times, sorted(set(times)))

    def test_times_rise_even_when_the_wall_clock_lags_behind_the_media(self) -> None:
        encoder = Encoder(self).start()
        for number in range(300):
            encoder.publication.packet(1, number * PICTURE, number * PICTURE, number % 30 == 0, b"p")
        encoder.publication.close("gone")
        last = self.reader.packets[-1].dts
        self.live()
        self.assertGreater(self.reader.packets[300].dts, last)

    def test_a_grace_time_of_nothing_ends_at_once(self) -> None:
        self.hub.settings = msgspec.structs.replace(self.hub.settings, publisher_grace=0.0)
        self.live().publication.close("gone")
        self.clock.advance(0)
        self.assertEqual(self.hub.streams, {})

    def test_what_a_publisher_says_after_it_left_is_ignored(self) -> None:
        encoder = self.live()
        encoder.publication.close("gone")
        count = len(self.reader.seen)
        encoder.send(10)
        encoder.publication.track(WIDE)
        encoder.publication.close("again")
        self.assertEqual(len(self.reader.seen), count)


class TestTakeover(HubCase):
    def test_the_incumbent_feeds_until_the_newcomers_first_keyframe(self) -> None:
        incumbent = self.live()
        newcomer = Encoder(self, at=5_000_000).start()
        newcomer.send(10, keyframes=False)
        count = len(self.reader.packets)
        incumbent.send(1)
        self.assertGreater(len(self.reader.packets), count)
        self.assertEqual(incumbent.stopped, [])
        newcomer._count = 0
        newcomer.send(1)
        self.assertEqual(incumbent.stopped, ["taken_over"])
        self.assertEqual(self.reader.words, ["restarted: taken over"])
        count = len(self.reader.packets)
        incumbent.send(1)
        self.assertEqual(len(self.reader.packets), count)

    def test_a_newcomer_that_leaves_takes_nothing(self) -> None:
        incumbent = self.live()
        Encoder(self).start().publication.close("gone")
        incumbent.send(30)
        self.assertEqual((self.stream.state, incumbent.stopped, self.reader.words), ("live", [], []))

    def test_the_incumbent_that_leaves_while_a_newcomer_prepares_starts_the_grace_time(self) -> None:
        incumbent = self.live()
        newcomer = Encoder(self).start()
        incumbent.publication.close("gone")
        self.assertEqual(self.stream.state, "waiting")
        newcomer.send(1)
        self.assertEqual(self.stream.state, "live")
        self.clock.advance(60)
        self.assertEqual(self.stream.state, "live")

    def test_of_two_newcomers_the_later_counts_and_the_earlier_is_told(self) -> None:
        incumbent = self.live()
        first, second = Encoder(self).start(), Encoder(self).start()
        self.assertEqual(first.stopped, ["replaced"])
        first.send(1)
        self.assertEqual(incumbent.stopped, [])
        second.send(1)
        self.assertEqual(incumbent.stopped, ["taken_over"])

    def test_two_that_fight_are_calmed(self) -> None:
        self.live()
        for _ in range(TAKEOVERS):
            self.live()
        self.assertEqual(self.refused(), "stream_busy")
        self.assertEqual(self.stream.state, "live")

    def test_the_calm_lasts_a_minute(self) -> None:
        last = self.live()
        for _ in range(TAKEOVERS):
            last = self.live()
        last.send(int(TAKEOVER_WINDOW * 30))
        self.live()
        self.assertEqual(last.stopped, ["taken_over"])

    def test_a_silent_incumbent_protects_nothing(self) -> None:
        last = self.live()
        for _ in range(TAKEOVERS):
            last = self.live()
        self.clock.advance(SILENCE)
        self.live()
        self.assertEqual(last.stopped, ["taken_over"])

    def test_a_refused_newcomer_does_not_replace_the_one_that_prepares(self) -> None:
        self.live()
        for _ in range(TAKEOVERS - 1):
            self.live()
        waiting = Encoder(self).start()
        self.live()  # replaces the one that waits, and is the last takeover allowed
        self.assertEqual(waiting.stopped, ["replaced"])
        self.assertEqual(self.refused(), "stream_busy")

    def test_a_return_after_leaving_is_no_takeover(self) -> None:
        for _ in range(TAKEOVERS * 3):
            self.live().publication.close("gone")
        self.assertEqual(self.stream.state, "waiting")

    def test_a_publisher_that_raises_when_stopped_does_not_hinder_the_newcomer(self) -> None:
        incumbent = self.live()

        def broken(code: str, sentence: str) -> None:
            raise RuntimeError("the socket is gone")

        incumbent.stop = broken  # type: ignore[method-assign]
        self.live()
        self.assertEqual(self.reader.words, ["restarted: taken over"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class TestTracks(HubCase):
    def test_a_track_that_appears_late_restarts_at_the_next_keyframe(self) -> None:
        encoder = Encoder(self).connect(VIDEO, expect=(True, False))
        encoder.send(40, audio=False)
        encoder.publication.track(AUDIO)
        encoder.send(30)
        self.assertEqual(self.reader.words, ["restarted: the sound appeared"])
        at = self.reader.seen.index(self.reader.words[0])
        self.assertEqual(at, 60)
        self.assertTrue(self.reader.seen[at + 1].keyframe)  # type: ignore[union-attr]
        self.assertEqual(self.stream.source.tracks, (VIDEO, AUDIO))

    def test_until_then_the_picture_goes_on_and_the_new_sound_waits(self) -> None:
        encoder = Encoder(self).connect(VIDEO, expect=(True, False))
        encoder.send(40, audio=False)
        encoder.publication.track(AUDIO)
        encoder.send(10)
        self.assertEqual((len(self.reader.of(True)), self.reader.of(False)), (50, []))

    def test_a_changed_picture_restarts_at_its_keyframe_and_sound_goes_on_meanwhile(self) -> None:
        encoder = self.live(gop=40)
        sounds = len(self.reader.of(False))
        encoder.publication.track(WIDE)
        encoder.send(9)
        self.assertEqual(self.reader.words, [])
        self.assertEqual(len(self.reader.of(True)), 30)
        self.assertGreater(len(self.reader.of(False)), sounds)
        encoder.send(2)
        self.assertEqual(self.reader.words, ["restarted: the picture changed"])
        self.assertEqual(self.reader.of(True)[-1].track, WIDE)

    def test_changed_sound_restarts_at_the_next_keyframe(self) -> None:
        encoder = self.live()
        encoder.publication.track(MONO)
        encoder.send(31)
        self.assertEqual(self.reader.words, ["restarted: the sound changed"])
        self.assertEqual(self.reader.of(False)[-1].track, MONO)

    def test_changed_sound_of_an_audio_only_stream_restarts_at_once(self) -> None:
        encoder = Encoder(self).connect(AUDIO, expect=(False, True))
        encoder.send(10, video=False)
        encoder.publication.track(MONO)
        encoder.send(1, video=False)
        self.assertEqual(self.reader.words, ["restarted: the sound changed"])

    def test_a_picture_in_an_audio_only_stream_is_waited_for_while_sound_goes_on(self) -> None:
        encoder = Encoder(self).connect(AUDIO, expect=(False, True))
        encoder.send(40, video=False)
        encoder.publication.track(VIDEO)
        count = len(self.reader.of(False))
        encoder.send(5, keyframes=False)
        self.assertGreater(len(self.reader.of(False)), count)
        encoder._count = 0
        encoder.send(1)
        self.assertEqual(self.reader.words, ["restarted: the picture appeared"])

    def test_the_same_track_again_is_no_change(self) -> None:
        encoder = self.live()
        encoder.publication.track(VIDEO)
        encoder.send(60)
        self.assertEqual(self.reader.words, [])

    def test_a_track_that_changes_while_it_is_held_back_begins_with_its_new_self(self) -> None:
        encoder = Encoder(self).connect(AUDIO)
        encoder.send(10, video=False)
        encoder.publication.track(MONO)
        encoder.send(32, video=False)
        self.assertEqual({packet.track for packet in self.reader.packets}, {MONO})

    def test_two_tracks_of_sound_keep_their_own_time(self) -> None:
        second = msgspec.structs.replace(AUDIO, id=3)
        publication = Encoder(self).connect(VIDEO, AUDIO, second).publication
        for number in range(100):
            if number % 30 == 0:
                publication.packet(1, number * SOUND, number * SOUND, True, b"p")
            for track in (2, 3):
                publication.packet(track, number * SOUND, number * SOUND, True, b"s", 1024)
        for track in (2, 3):
            times = [packet.dts for packet in self.reader.packets if packet.track.id == track]
            self.assertEqual(times, [TICKS + number * SOUND for number in range(100)])


class TestTime(HubCase):
    def gaps(self, kind: bool) -> set[int]:
        times = [packet.dts for packet in self.reader.of(kind)]
        return {second - first for first, second in pairwise(times)}

    def test_jumps_never_reach_a_reader(self) -> None:
        encoder = self.live()
        for jump in (10_000_000_000, -10_000_000_000, -50 * TICKS, 3600 * TICKS):
            encoder.jump(jump)
            encoder.send(30)
        for kind in (True, False):
            self.assertLessEqual(max(self.gaps(kind)), 2 * PICTURE)
            self.assertGreater(min(self.gaps(kind)), 0)
        self.assertGreaterEqual(encoder.publication.jumps, 4)
        self.assertEqual(self.reader.words, [])

    def test_time_that_stands_still_still_rises(self) -> None:
        publication = Encoder(self).connect(VIDEO, expect=(True, False)).publication
        for number in range(100):
            publication.packet(1, 0, 0, number == 0, b"p")
        self.assertGreater(min(self.gaps(True)), 0)

    def test_sound_is_counted_in_samples(self) -> None:
        publication = Encoder(self).connect(AUDIO, expect=(False, True)).publication
        for number in range(1000):  # whole milliseconds, as RTMP has them
            stamp = number * 1024 * 1000 // 48_000 * 90
            publication.packet(2, stamp, stamp, True, b"s", 1024)
        self.assertEqual(self.gaps(False), {SOUND})

    def test_durations_are_those_of_the_packets_before(self) -> None:
        self.live()
        self.assertEqual({packet.duration for packet in self.reader.of(True)}, {PICTURE})
        self.assertEqual({packet.duration for packet in self.reader.of(False)}, {SOUND})

    def test_no_frame_rate_makes_a_duration_without_bound(self) -> None:
        slow = msgspec.structs.replace(VIDEO, frame_rate=Fraction(1, 1001))
        publication = Encoder(self).connect(slow, expect=(True, False)).publication
        publication.packet(1, 0, 0, True, b"p")
        self.assertEqual(self.reader.packets[0].duration, 5 * TICKS)


class TestEnd(HubCase):
    def test_ending_tells_the_publisher_and_a_newcomer(self) -> None:
        incumbent, newcomer = self.live(), Encoder(self).start()
        self.stream.end("its owner stopped it", "stopped", "The owner stopped this stream.")
        self.assertEqual((incumbent.stopped, newcomer.stopped), (["stopped"], ["stopped"]))

    def test_ending_twice_is_once(self) -> None:
        self.live()
        stream = self.stream
        stream.end("first")
        stream.end("second")
        self.assertEqual(self.reader.words, ["ended: first"])
        self.assertEqual(self.listener.heard[1:], ["stopped show: first"])

    def test_nothing_is_scheduled_after_the_end(self) -> None:
        self.live().publication.close("gone")
        self.stream.end("now")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stream_that_never_began_ends_without_a_word(self) -> None:
        encoder = Encoder(self).start()
        self.hub.close()
        self.assertEqual((encoder.stopped, self.listener.heard), (["shutting_down"], []))

    def test_after_the_end_the_same_key_begins_a_new_stream(self) -> None:
        self.live()
        first = self.stream
        first.end("over")
        self.live()
        self.assertIsNot(self.stream, first)
        self.assertEqual(len(self.output.opened), 2)

    def test_shutdown_ends_every_stream_in_whatever_state(self) -> None:
        live, waiting = self.live(), Encoder(self, key="key-of-other").start()
        self.hub.close()
        self.assertEqual((live.stopped, waiting.stopped), (["shutting_down"], ["shutting_down"]))
        self.assertEqual(self.hub.streams, {})
        self.assertEqual(self.refused(), "shutting_down")


class TestNoticesAndViewers(HubCase):
    def test_a_notice_is_logged_once_and_taken_back(self) -> None:
        self.live()
        logged: list[Any] = []
        self.patch(self.stream, "log", type("Log", (), {"warn": lambda _, *a, **k: logged.append(k)})())
        self.stream.notice("key", "something")
        self.stream.notice("key", "something")
        self.assertEqual((len(logged), self.stream.notices), (1, {"key": "something"}))
        self.stream.notice("key", None)
        self.stream.notice("key", None)
        self.assertEqual(self.stream.notices, {})

    def test_when_a_viewer_left(self) -> None:
        self.live()
        began = self.clock.seconds()
        viewers = [self.stream.viewer("watching", "192.0.2.1") for _ in range(3)]
        self.clock.advance(30)
        for viewer, at in zip(viewers, (None, began + 10, began - 10), strict=True):
            viewer.leave(at)
        self.assertEqual([viewer.left - began for viewer in viewers], [30, 10, 0])

    def test_viewers_are_counted_and_the_most_is_kept(self) -> None:
        self.live()
        viewers = [self.stream.viewer("watching", f"192.0.2.{number}") for number in range(3)]
        viewers[0].leave()
        viewers[0].leave()
        self.assertEqual((self.stream.viewer_count, self.stream.max_viewers), (2, 3))
        self.assertEqual(len({viewer.id for viewer in viewers}), 3)
