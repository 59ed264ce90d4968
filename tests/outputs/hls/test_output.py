"""HLS as a plugin of a real hub: addresses, waiting, private streams, the end."""

import json
from types import SimpleNamespace
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from oxidecast.delivery.hot import HotAnswer, HotRequest, IHotResource
from oxidecast.interfaces import IOutput, IOutputStream, IReloadable, PlayRequest, Refused
from oxidecast.media import Codec, Track
from oxidecast.outputs.hls.output import FIRST_SEGMENT, LINGER, SWEEP, HLSOutput
from oxidecast.outputs.hls.sessions import LEFT_AFTER
from oxidecast.outputs.hls.settings import HlsSettings
from oxidecast.streams.wanting import Planned
from tests.formats.material import stream as material
from tests.streams.stage import Encoder, HubCase, info, planned

VIDEO, AUDIO = material(Codec.H264, frames=2)[0], material(Codec.AAC, frames=2)[0]
MP3 = Track(id=2, codec=Codec.MP3, extradata=b"", codec_string="mp4a.6B", sample_rate=44_100, channels=2)


class OutputCase(HubCase):
    def setUp(self) -> None:
        super().setUp()
        services: Any = SimpleNamespace(reactor=self.clock, hub=self.hub, secret=lambda purpose: b"s" * 32)
        self.hls = HLSOutput(HlsSettings(), services)
        self.registry.running.remove(self.watching)
        self.add("hls", IOutput, self.hls)
        self.resource = self.hls.routes()["hls"]

    def live(self, *tracks: Track, seconds: int = 5, key: str = "key-of-show") -> Encoder:  # type: ignore[override]
        encoder = Encoder(self, key=key).connect(*(tracks or (VIDEO, AUDIO)))
        encoder.send(seconds * 30)
        return encoder

    def request(self, path: str, query: str = "", **fields: str) -> HotRequest:
        request = HotRequest()
        request.client = IPv4Address("TCP", "192.0.2.7", 1)
        request.method = b"GET"
        request.path = path.encode()
        request.raw_query = query.encode()
        request.fields = {name.encode(): value.encode() for name, value in fields.items()}
        return request

    def ask(self, path: str, query: str = "", **fields: str) -> HotAnswer:
        answer = self.resource.hot(self.request(path, query, **fields))
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def code(self, path: str, query: str = "", **fields: str) -> tuple[int, str]:
        answer = self.ask(path, query, **fields)
        envelope = json.loads(bytes(answer.body))
        self.assertEqual(set(envelope), {"success", "data", "error", "code", "timestamp"})
        return answer.status, envelope["code"]

    def media_playlist(self, name: str = "show") -> str:
        text = bytes(self.ask(f"{name}/playlist.m3u8").body).decode()
        (path,) = [line for line in text.splitlines() if line and not line.startswith("#")]
        return f"{name}/{path}"


class TestAddresses(OutputCase):
    def test_it_provides_what_it_says(self) -> None:
        self.live()
        verifyObject(IOutput, self.hls)
        verifyObject(IReloadable, self.hls)
        verifyObject(IHotResource, self.resource)
        verifyObject(IOutputStream, self.hls.streams["show"])

    def test_a_viewer_goes_from_the_name_to_a_segment(self) -> None:
        self.live()
        address = self.media_playlist()
        playlist = self.ask(address)
        self.assertEqual(playlist.status, 200)
        lines = bytes(playlist.body).decode().splitlines()
        segment = next(line for line in lines if line and not line.startswith("#"))
        answer = self.ask(address.replace("playlist.m3u8", segment))
        self.assertEqual((answer.status, answer.content_type), (200, b"video/mp4"))

    def test_by_id_too(self) -> None:
        self.live()
        self.assertEqual(self.ask(f"{self.stream.id}/playlist.m3u8").status, 200)

    def test_viewers_share_the_bytes_of_a_playlist(self) -> None:
        self.live()
        first, second = self.media_playlist(), self.media_playlist()
        self.assertNotEqual(first, second)
        self.assertIs(self.ask(first), self.ask(second))

    def test_what_does_not_exist(self) -> None:
        self.live()
        session = self.media_playlist().split("/")[1]
        for path, code in (
            ("nothing/playlist.m3u8", "no_stream"),
            ("", "no_stream"),
            ("show", "not_found"),
            ("show/other.m3u8", "not_found"),
            ("show/source/playlist.m3u8", "not_found"),
            ("show/~forged/source/playlist.m3u8", "no_session"),
            (f"show/{session}/720p/playlist.m3u8", "no_quality"),
            (f"show/{session}/source/nothing.m4s", "not_found"),
            (f"show/{session}/source/../../x", "not_found"),
            ("show/~\ufffd/source/playlist.m3u8", "no_session"),
        ):
            self.assertEqual(self.code(path), (404, code), path)

    def test_the_key_is_no_name(self) -> None:
        self.live()
        self.assertEqual(self.code("key-of-show/playlist.m3u8"), (404, "no_stream"))

    def test_the_multivariant_playlist_names_codecs_and_size(self) -> None:
        self.live()
        text = bytes(self.ask("show/playlist.m3u8").body).decode()
        self.assertIn(f'CODECS="{VIDEO.codec_string},{AUDIO.codec_string}"', text)
        self.assertIn("RESOLUTION=64x64", text)
        self.assertEqual(self.ask("show/playlist.m3u8").cache_control, b"no-store")

    def test_the_multivariant_playlist_promises_nothing_of_segments_to_come(self) -> None:
        self.live()
        self.assertIn(b"#EXT-X-INDEPENDENT-SEGMENTS", bytes(self.ask(self.media_playlist()).body))
        self.assertNotIn(b"#EXT-X-INDEPENDENT-SEGMENTS", bytes(self.ask("show/playlist.m3u8").body))


class TestQualities(OutputCase):
    """That are made when a player asks for them."""

    def setUp(self) -> None:
        super().setUp()
        self.live()
        self.stream.info = msgspec.structs.replace(self.stream.info, transcoding_profiles=("720p", "360p"))
        self.stream.plan({name: planned(name) for name in ("720p", "360p")})

    def listed(self) -> dict[str, str]:
        text = bytes(self.ask("show/playlist.m3u8").body).decode()
        paths = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {path.split("/")[1]: f"show/{path}" for path in paths}

    def test_they_are_listed_and_waited_for(self) -> None:
        self.assertEqual(set(self.listed()), {"source", "720p", "360p"})
        waiting = self.resource.hot(self.request(self.listed()["360p"]))
        self.assertNoResult(waiting)
        self.assertEqual([spec.name for spec in self.stream.wanted], ["360p"])
        self.clock.advance(FIRST_SEGMENT)
        self.assertEqual(self.successResultOf(waiting).status, 404)

    def test_nobody_is_kept_waiting_for_what_cannot_be_made(self) -> None:
        before = self.listed()
        waiting = self.resource.hot(self.request(before["360p"]))
        self.stream.plan({}, "the server is full")
        for answer in (self.successResultOf(waiting), self.ask(before["360p"]), self.ask(before["720p"])):
            said = json.loads(bytes(answer.body))
            self.assertEqual((answer.status, said["code"]), (404, "no_quality"))
            self.assertEqual(said["error"], "This quality is not to be had now: the server is full.")
        self.assertEqual(list(self.listed()), ["source"])
        self.assertEqual(self.code(before["360p"].replace("360p", "8k")), (404, "no_quality"))
        self.assertEqual(self.code("show/~forged/360p/playlist.m3u8"), (404, "no_session"))
        self.stream.plan({name: planned(name) for name in ("720p", "360p")})
        self.assertEqual(set(self.listed()), {"source", "720p", "360p"})

    def test_who_watches_or_waits_hears_why_a_quality_is_gone(self) -> None:
        before = self.listed()
        waiting = self.resource.hot(self.request(before["720p"]))
        self.stream.left_out = {"720p": "the source is smaller (640x360)"}
        self.stream.info = msgspec.structs.replace(self.stream.info, transcoding_profiles=("720p",))
        self.stream.plan({})
        for name, answer, why in (
            ("720p", self.successResultOf(waiting), "the source is smaller (640x360)"),
            ("720p", self.ask(before["720p"]), "the source is smaller (640x360)"),
            ("360p", self.ask(before["360p"]), "the stream has no such quality"),
        ):
            said = json.loads(bytes(answer.body))
            self.assertEqual((name, answer.status, said["code"]), (name, 404, "no_quality"))
            self.assertEqual(said["error"], f"This quality is not to be had now: {why}.")
            self.assertNotIn(b"Retry-After", dict(answer.headers))

    def test_a_quality_of_a_stream_that_has_ended(self) -> None:
        before = self.listed()
        self.stream.end("over")
        said = json.loads(bytes(self.ask(before["720p"]).body))
        self.assertEqual(said["error"], "This quality is not to be had now: the stream has ended.")


class TestCodecs(OutputCase):
    """Qualities of the ladder in codecs that not every container carries."""

    def listed(self, kind: str) -> list[str]:
        self.hls.reload(HlsSettings(segment_type=kind))  # type: ignore[arg-type]
        encoder = self.live()
        av1, packets = material(Codec.AV1, frames=150)
        self.stream.planned = {
            name: Planned(
                name=name, codec=codec, width=64, height=64, frame_rate=None, peak=9, average=8, codecs=("x",)
            )
            for name, codec in (("hevc", Codec.HEVC), ("av1", Codec.AV1), ("runs", Codec.AV1))
        }
        runs = self.stream.add_rendition("runs", (av1, AUDIO))
        for packet in packets:
            runs.push(msgspec.structs.replace(packet, track=av1))
        encoder.send(90)
        text = bytes(self.ask("show/playlist.m3u8").body).decode()
        return sorted(line.split("/")[1] for line in text.splitlines() if line.startswith("~"))

    def test_fragments_carry_all(self) -> None:
        self.assertEqual(self.listed("fmp4"), ["av1", "hevc", "runs", "source"])

    def test_transport_streams_have_no_av1_and_sound_alone_is_no_quality(self) -> None:
        self.assertEqual(self.listed("mpegts"), ["hevc", "source"])


class TestFirstSegment(OutputCase):
    def test_a_request_waits_for_it(self) -> None:
        encoder = self.live(seconds=1)
        waiting = self.resource.hot(self.request("show/playlist.m3u8"))
        self.assertNoResult(waiting)
        encoder.send(40)
        self.assertEqual(self.successResultOf(waiting).status, 200)

    def test_only_so_long(self) -> None:
        self.live(seconds=1)
        waiting = self.resource.hot(self.request("show/playlist.m3u8"))
        self.clock.advance(FIRST_SEGMENT)
        answer = self.successResultOf(waiting)
        self.assertEqual(answer.status, 404)
        self.assertIn((b"Retry-After", b"2"), answer.headers)
        self.assertEqual(self.hls.streams["show"]._waiting, set())

    def test_who_leaves_while_waiting_leaves_nothing_behind(self) -> None:
        self.live(seconds=1)
        calls = len(self.clock.getDelayedCalls())
        waiting = self.resource.hot(self.request("show/playlist.m3u8"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.hls.streams["show"]._waiting, set())
        self.assertEqual(len(self.clock.getDelayedCalls()), calls)

    def test_the_end_ends_the_waiting(self) -> None:
        self.live(seconds=1)
        waiting = self.resource.hot(self.request("show/playlist.m3u8"))
        self.stream.end("over")
        self.assertIn(b"#EXT-X-STREAM-INF", bytes(self.successResultOf(waiting).body))

    def test_codecs_that_hls_cannot_carry_are_said_at_once(self) -> None:
        encoder = Encoder(self).connect(MP3, expect=(False, True))
        encoder.send(30, video=False)
        self.assertEqual(self.code("show/playlist.m3u8"), (404, "not_carried"))


class TestChangeOfCodecs(OutputCase):
    """The encoder comes back within the grace time, with what HLS cannot carry."""

    def setUp(self) -> None:
        super().setUp()
        self.hls.startService()
        self.addCleanup(self.hls.stopService)
        encoder = self.live()
        self.address = self.media_playlist()
        encoder.publication.close("gone")
        self.encoder = Encoder(self).connect(MP3, expect=(False, True))
        self.encoder.send(30, video=False)

    def test_new_viewers_are_told_and_not_sent_to_a_playlist_that_stands_still(self) -> None:
        self.assertEqual(self.code("show/playlist.m3u8"), (404, "not_carried"))

    def test_who_watched_can_read_the_last_segments(self) -> None:
        self.assertEqual(self.ask(self.address).status, 200)

    def test_a_change_back_is_listed_again(self) -> None:
        self.encoder.publication.close("gone")
        self.live()
        self.assertIn(VIDEO.codec_string.encode(), bytes(self.ask("show/playlist.m3u8").body))

    def test_after_the_end_the_older_segments_can_be_read(self) -> None:
        self.stream.end("over")
        self.assertIn(b"#EXT-X-ENDLIST", bytes(self.ask(self.media_playlist()).body))

    def test_after_the_end_the_codecs_of_the_older_segments_are_named(self) -> None:
        self.stream.end("over")
        self.assertIn(VIDEO.codec_string.encode(), bytes(self.ask("show/playlist.m3u8").body))


class TestPrivate(OutputCase):
    def setUp(self) -> None:
        super().setUp()
        self.keys.infos["key-of-show"] = info("show", is_private=True)
        self.live()

    def test_without_a_token(self) -> None:
        answer = self.ask("show/playlist.m3u8")
        self.assertEqual(answer.status, 401)
        self.assertIn((b"WWW-Authenticate", b"Bearer"), answer.headers)

    def test_with_a_token_in_the_query_or_the_header(self) -> None:
        self.assertEqual(self.ask("show/playlist.m3u8", "token=good").status, 200)
        self.assertEqual(self.ask("show/playlist.m3u8", authorization="Bearer good").status, 200)
        self.assertEqual(self.ask("show/playlist.m3u8", authorization="Basic good").status, 401)

    def test_a_session_once_started_needs_no_token(self) -> None:
        text = bytes(self.ask("show/playlist.m3u8", "token=good").body).decode()
        path = text.splitlines()[-1]
        self.assertNotIn("good", text)
        self.assertEqual(self.ask(f"show/{path}").status, 200)

    def test_a_session_of_another_stream_does_not_open_it(self) -> None:
        self.keys.infos["key-of-other"] = info("other")
        self.live(key="key-of-other")
        session = self.media_playlist("other").split("/")[1]
        self.assertEqual(self.code(f"show/{session}/source/playlist.m3u8"), (404, "no_session"))

    def test_tokens_that_cannot_be_checked_now_are_a_503(self) -> None:
        async def away(stream: Any, request: PlayRequest) -> None:
            raise Refused("unavailable", "Later.")

        self.patch(self.hub, "authorise", away)
        answer = self.ask("show/playlist.m3u8")
        self.assertEqual((answer.status, answer.headers), (503, ((b"Retry-After", b"5"),)))


class TestViewers(OutputCase):
    def test_a_viewer_is_who_reads_a_media_playlist(self) -> None:
        self.live()
        address = self.media_playlist()
        self.assertEqual(self.stream.viewer_count, 0)
        self.ask(address)
        self.ask(address)
        self.assertEqual(self.stream.viewer_count, 1)

    def test_and_leaves_by_not_reading(self) -> None:
        self.hls.startService()
        encoder = self.live()
        self.ask(self.media_playlist())
        encoder.send(int((LEFT_AFTER + SWEEP) * 30) + 1)
        self.assertEqual(self.stream.viewer_count, 0)
        self.hls.stopService()

    def test_stopping_leaves_no_timer(self) -> None:
        self.hls.startService()
        self.hls.stopService()
        self.hls.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TestEnd(OutputCase):
    def setUp(self) -> None:
        super().setUp()
        self.hls.startService()
        self.addCleanup(self.hls.stopService)

    def test_late_viewers_read_the_end_for_a_while(self) -> None:
        self.live()
        address = self.media_playlist()
        self.stream.end("over")
        self.assertIn(b"#EXT-X-ENDLIST", bytes(self.ask(address).body))
        self.clock.advance(LINGER + SWEEP)
        self.assertEqual(self.code(address), (404, "no_stream"))
        self.assertEqual(self.hls.streams, {})

    def test_the_end_leaves_no_timer_of_its_own(self) -> None:
        self.live()
        self.stream.end("over")
        self.hls.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_counted_after_the_end(self) -> None:
        self.live()
        address, stream = self.media_playlist(), self.stream
        stream.end("over")
        self.ask(address)
        self.assertEqual(stream.viewer_count, 0)

    def test_a_new_life_within_the_while_is_not_forgotten_with_the_old_one(self) -> None:
        self.live()
        self.stream.end("over")
        self.clock.advance(LINGER / 2)
        encoder = self.live()
        encoder.send(int(LINGER) * 30)
        self.assertEqual(self.ask("show/playlist.m3u8").status, 200)

    def test_a_return_within_the_grace_time_keeps_the_session(self) -> None:
        encoder = self.live()
        address = self.media_playlist()
        encoder.publication.close("gone")
        self.clock.advance(10)
        self.live()
        self.assertIn(b"#EXT-X-DISCONTINUITY\n", bytes(self.ask(address).body))


class TestReload(OutputCase):
    def test_streams_that_start_afterwards_follow_the_new_settings(self) -> None:
        self.live()
        self.hls.reload(HlsSettings(segment_type="mpegts"))
        self.live(key="key-of-other")
        self.assertIn(b".m4s", bytes(self.ask(self.media_playlist()).body))
        self.assertIn(b".ts", bytes(self.ask(self.media_playlist("other")).body))

    def test_its_keys_are_named_as_reloadable(self) -> None:
        self.assertIn("segment_duration", HlsSettings.reloadable)
