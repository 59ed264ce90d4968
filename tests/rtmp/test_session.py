"""The server session, as transcripts: what the peer says, what happens, what it is told."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import amf, flv
from oxidecast.media.errors import LocalProtocolError, RemoteProtocolError
from oxidecast.rtmp import link
from oxidecast.rtmp.chunks import ChunkReader, ChunkWriter
from oxidecast.rtmp.events import (
    AudioReceived,
    ConnectRequested,
    MetadataReceived,
    PingAnswered,
    PlayRequested,
    PlayStopped,
    PublishRequested,
    PublishStopped,
    ServerEvent,
    VideoReceived,
)
from oxidecast.rtmp.handshake import BLOCK, RANDOM
from oxidecast.rtmp.messages import Message
from oxidecast.rtmp.session import MAX_HELD, MAX_NAME, MAX_STREAMS, ServerSession

OBS = {
    "app": "live",
    "type": "nonprivate",
    "flashVer": "FMLE/3.0 (compatible; FMSc/1.0)",
    "swfUrl": "rtmp://host/live",
    "tcUrl": "rtmp://host/live",
    "fourCcList": ["av01", "hvc1"],
}


class Talk:
    """A peer that says what it is told to, and the session it talks with."""

    def __init__(self, *, answering: bool = True) -> None:
        self.session = ServerSession(random=bytes(RANDOM))
        self.writer, self.reader = ChunkWriter(), ChunkReader()
        self.answering = answering
        self.events: list[ServerEvent] = []
        self.send(b"\x03" + bytes(2 * BLOCK))
        self.session.take_output()

    def send(self, data: bytes) -> list[ServerEvent]:
        """The events that the bytes make."""
        events = []
        for event in self.session.receive(data):
            events.append(event)
            if self.answering:
                if isinstance(event, ConnectRequested):
                    self.session.accept_connect()
                elif isinstance(event, PublishRequested):
                    self.session.accept_publish(event.stream_id)
                elif isinstance(event, PlayRequested):
                    self.session.accept_play(event.stream_id)
        self.events += events
        return events

    def message(self, type_id: int, stream_id: int, payload: bytes, timestamp: int = 0) -> list[ServerEvent]:
        return self.send(self.writer.message(3, type_id, stream_id, timestamp, payload))

    def command(self, stream_id: int, *values: object) -> list[ServerEvent]:
        return self.message(20, stream_id, amf.encode(*values))

    def heard(self) -> list[Message]:
        return self.reader.receive(self.session.take_output())

    def commands(self) -> list[list[amf.Value]]:
        """The commands it was told."""
        return [amf.decode_all(message.payload) for message in self.heard() if message.type_id == 20]

    def codes(self) -> list[object]:
        """The status codes it was told."""
        infos = [value for command in self.commands() for value in command if isinstance(value, dict)]
        return [info["code"] for info in infos if "code" in info]

    def connected(self) -> "Talk":
        self.command(0, "connect", 1, OBS)
        return self

    def publishing(self, name: str = "key") -> "Talk":
        self.connected()
        self.command(0, "createStream", 2, None)
        self.command(1, "publish", 3, None, name, "live")
        self.heard()
        return self


def kinds(events: Iterable[object]) -> list[type]:
    return [type(event) for event in events]


class Connecting(SynchronousTestCase):
    def test_tells_the_app_and_what_the_peer_knows(self) -> None:
        (event,) = Talk().command(0, "connect", 1, OBS)
        assert isinstance(event, ConnectRequested)
        assert (event.app, event.query, event.tc_url) == ("live", "", "rtmp://host/live")
        assert event.flash_ver == "FMLE/3.0 (compatible; FMSc/1.0)"
        assert (event.four_ccs, event.caps_ex, event.object_encoding) == (("av01", "hvc1"), 0, 0)
        assert event.parameters["type"] == "nonprivate"

    def test_strips_the_app_of_slashes_and_query(self) -> None:
        for app, query in [("live/", ""), ("/live", ""), ("live?k=v", "k=v")]:
            (event,) = Talk().command(0, "connect", 1, {"app": app})
            assert isinstance(event, ConnectRequested)
            assert (event.app, event.query) == ("live", query)

    def test_reads_enhanced_rtmp_v2_capabilities(self) -> None:
        parameters = {
            "app": "x",
            "videoFourCcInfoMap": {"*": 4},
            "audioFourCcInfoMap": {"Opus": 1},
            "capsEx": 7,
        }
        (event,) = Talk().command(0, "connect", 1, parameters)
        assert isinstance(event, ConnectRequested)
        assert (event.four_ccs, event.caps_ex) == (("*", "Opus"), 7)

    def test_survives_nonsense_for_capabilities(self) -> None:
        parameters = {"app": "x", "fourCcList": [1, None], "capsEx": float("nan"), "objectEncoding": 1e300}
        (event,) = Talk().command(0, "connect", 1, {**parameters, "flashVer": 3, "tcUrl": None})
        assert isinstance(event, ConnectRequested)
        assert (event.four_ccs, event.caps_ex, event.object_encoding, event.tc_url) == ((), 0, 0, "")

    def test_is_answered_with_windows_chunk_size_and_codecs(self) -> None:
        talk = Talk().connected()
        heard = talk.heard()
        assert [m.type_id for m in heard] == [5, 6, 20]  # Set Chunk Size is carried out by the reader
        assert talk.reader.chunk_size == 4096
        name, transaction, _, info = amf.decode_all(heard[-1].payload)
        assert (name, transaction) == ("_result", 1.0)
        assert isinstance(info, dict)
        assert (info["code"], info["capsEx"]) == ("NetConnection.Connect.Success", 14.0)
        assert info["videoFourCcInfoMap"] == dict.fromkeys(["avc1", "hvc1", "av01", "vp09", "vp08"], 4.0)
        assert info["audioFourCcInfoMap"] == dict.fromkeys(["mp4a", "Opus", ".mp3", "ac-3"], 4.0)
        assert talk.session.connected

    def test_may_be_refused_and_then_nothing_is_read(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        talk.session.reject_connect("No such app.")
        ((name, transaction, _, info),) = talk.commands()
        assert (name, transaction) == ("_error", 1.0)
        assert info == {
            "level": "error",
            "code": "NetConnection.Connect.Rejected",
            "description": "No such app.",
        }
        assert talk.command(0, "createStream", 2, None) == []
        assert talk.commands() == []

    def test_in_an_amf3_envelope_works_too(self) -> None:
        talk = Talk()
        assert kinds(talk.message(17, 0, b"\0" + amf.encode("connect", 1, OBS))) == [ConnectRequested]

    def test_waits_for_the_answer_before_it_reads_on(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        assert talk.session.waiting
        assert talk.command(0, "createStream", 2, None) == []
        assert talk.commands() == []
        talk.session.accept_connect()
        assert not talk.session.waiting
        talk.send(b"")
        assert [command[:2] for command in talk.commands()] == [["_result", 1.0], ["_result", 2.0]]

    def test_refuses_what_is_out_of_order(self) -> None:
        for name, act, sentence in [
            ("createStream first", lambda t: t.command(0, "createStream", 2, None), "came before connect"),
            ("connect twice", lambda t: t.connected() and t.connected(), "connect came a second time"),
            ("no object", lambda t: t.command(0, "connect", 1), "no command object"),
            ("no app", lambda t: t.command(0, "connect", 1, {}), "names no app"),
            ("a long app", lambda t: t.command(0, "connect", 1, {"app": "x" * 1025}), "longer than 1024"),
            ("no name", lambda t: t.command(0, 5, 1), "does not begin with a name"),
            ("no transaction", lambda t: t.command(0, "connect"), "does not begin with a name"),
            ("media first", lambda t: t.message(9, 1, b"x"), "message stream 1, which is not published"),
        ]:
            with self.subTest(name), self.assertRaisesRegex(RemoteProtocolError, sentence):
                act(Talk())

    def test_reads_no_more_after_a_fault(self) -> None:
        talk = Talk()
        self.assertRaises(RemoteProtocolError, talk.command, 0, "createStream", 2, None)
        assert talk.connected().events == []

    def test_refuses_media_sized_messages_until_a_publisher_is_accepted(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "message length 300000 is over the limit of 262144"):
            Talk().connected().message(9, 1, bytes(300_000))

    def test_says_when_the_handshake_is_over(self) -> None:
        session = ServerSession()
        assert not session.established
        list(session.receive(b"\x03" + bytes(2 * BLOCK)))
        assert session.established


class Publishing(SynchronousTestCase):
    def test_as_obs_does_it(self) -> None:
        talk = Talk().connected()
        talk.heard()
        transcript = [
            (0, ("releaseStream", 2, None, "key"), [], [["_result", 2.0, None]]),
            (0, ("FCPublish", 3, None, "key"), [], [["onFCPublish"], ["_result", 3.0, None]]),
            (0, ("createStream", 4, None), [], [["_result", 4.0, None, 1.0]]),
            (0, ("_checkbw", 5, None), [], [["_result", 5.0, None]]),
            (1, ("publish", 6, None, "key?a=b", "live"), [PublishRequested], [["onStatus", 0.0, None]]),
            (
                0,
                ("FCUnpublish", 7, None, "key?a=b"),
                [PublishStopped],
                [["onFCUnpublish"], ["onStatus", 0.0]],
            ),
            (0, ("deleteStream", 8, None, 1), [], []),
        ]
        for stream_id, command, events, answers in transcript:
            with self.subTest(command[0]):
                assert kinds(talk.command(stream_id, *command)) == events
                heard = talk.commands()
                assert [
                    command[: len(wanted)] for command, wanted in zip(heard, answers, strict=True)
                ] == answers

    def test_tells_the_name_and_its_parts(self) -> None:
        talk = Talk().publishing("key?token=x&y=?")
        event = talk.events[-1]
        assert isinstance(event, PublishRequested)
        assert (event.name, event.key, event.query) == ("key?token=x&y=?", "key", "token=x&y=?")
        assert (event.stream_id, event.kind, event.app) == (1, "live", "live")

    def test_passes_a_path_through_for_others_to_refuse(self) -> None:
        event = Talk().publishing("../../etc/passwd").events[-1]
        assert isinstance(event, PublishRequested)
        assert event.key == "../../etc/passwd"

    def test_of_an_unknown_kind_is_live(self) -> None:
        talk = Talk().connected()
        talk.command(0, "createStream", 2, None)
        (event,) = talk.command(1, "publish", 0, None, "key", 5)
        assert isinstance(event, PublishRequested)
        assert event.kind == "live"

    def test_brings_media_with_their_times(self) -> None:
        talk = Talk().publishing()
        talk.message(9, 1, b"\x17video", 0xFFFFFFFF)
        talk.message(8, 1, b"\xafaudio", 5)
        assert talk.events[-2:] == [
            VideoReceived(1, 0xFFFFFFFF, b"\x17video"),
            AudioReceived(1, 5, b"\xafaudio"),
        ]

    def test_skips_empty_media(self) -> None:
        talk = Talk().publishing()
        assert talk.message(9, 1, b"") + talk.message(8, 1, b"") == []

    def test_takes_aggregates_apart(self) -> None:
        talk = Talk().publishing()
        body = flv.file_tag(8, 50, b"a") + flv.file_tag(9, 60, b"v") + flv.file_tag(9, 60, b"")
        assert talk.message(22, 1, body, 1000) == [AudioReceived(1, 1000, b"a"), VideoReceived(1, 1010, b"v")]

    def test_brings_metadata_with_and_without_set_data_frame(self) -> None:
        talk = Talk().publishing()
        values = {"width": 1280.0, "encoder": "x"}
        wanted = [MetadataReceived(1, 7, values)]
        assert (
            talk.message(18, 1, amf.encode("@setDataFrame", "onMetaData", amf.EcmaArray(values)), 7) == wanted
        )
        assert talk.message(18, 1, amf.encode("onMetaData", values), 7) == wanted
        assert talk.message(15, 1, b"\0" + amf.encode("onMetaData", values), 7) == wanted

    def test_ignores_other_data(self) -> None:
        talk = Talk().publishing()
        for values in [("onTextData", {"a": 1}), ("@clearDataFrame", "onMetaData"), ("onMetaData", None), ()]:
            assert talk.message(18, 1, amf.encode(*values)) == []

    def test_may_be_refused_and_what_was_under_way_is_dropped(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        talk.session.accept_connect()
        talk.command(0, "createStream", 2, None)
        talk.command(1, "publish", 3, None, "key", "live")
        talk.heard()
        talk.session.reject_publish(1, "The stream key is not known.")
        assert talk.codes() == ["NetStream.Publish.BadName"]
        assert talk.message(9, 1, b"\x17video") == []

    def test_keeps_what_came_before_the_answer(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        talk.session.accept_connect()
        talk.command(0, "createStream", 2, None)
        talk.command(1, "publish", 3, None, "key", "live")
        assert talk.message(9, 1, b"\x17header") == []
        talk.session.accept_publish(1)
        assert talk.send(b"") == [VideoReceived(1, 0, b"\x17header")]

    def test_bounds_what_comes_before_the_answer(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        talk.send(bytes(MAX_HELD // 2))
        with self.assertRaisesRegex(RemoteProtocolError, "without waiting for an answer"):
            talk.send(bytes(MAX_HELD // 2 + 1))

    def test_ends_by_every_word_for_it(self) -> None:
        for stream_id, *command in [
            (0, "FCUnpublish", 5, None, "key"),
            (0, "deleteStream", 5, None, 1),
            (1, "closeStream", 5, None),
            (1, "publish", 5, None, False),
        ]:
            with self.subTest(command[0]):
                talk = Talk().publishing()
                assert talk.command(stream_id, *command) == [PublishStopped(1)]
                assert "NetStream.Unpublish.Success" in talk.codes()

    def test_ends_once(self) -> None:
        talk = Talk().publishing()
        talk.command(0, "FCUnpublish", 5, None, "key")
        assert talk.command(1, "closeStream", 6, None) + talk.command(0, "deleteStream", 7, None, 1) == []

    def test_may_begin_again_on_the_same_message_stream(self) -> None:
        talk = Talk().publishing()
        talk.command(1, "closeStream", 6, None)
        assert kinds(talk.command(1, "publish", 7, None, "other", "live")) == [PublishRequested]
        assert talk.message(9, 1, b"v") == [VideoReceived(1, 0, b"v")]

    def test_may_be_ended_by_the_server(self) -> None:
        talk = Talk().publishing()
        talk.session.end_publish(1, "NetStream.Publish.Denied", "Another encoder took over.")
        assert talk.codes() == ["NetStream.Publish.Denied"]
        assert talk.message(9, 1, b"v") == []

    def test_drops_media_after_its_end_and_refuses_it_after_delete_stream(self) -> None:
        talk = Talk().publishing()
        talk.command(1, "closeStream", 6, None)
        assert talk.message(8, 1, b"a") == []
        talk.command(0, "deleteStream", 7, None, 1)
        self.assertRaises(RemoteProtocolError, talk.message, 8, 1, b"a")

    def test_refuses_names_that_are_none(self) -> None:
        for name in ["", "x" * (MAX_NAME + 1), "x" * 10_000, "é" * 600, None, 5.0]:
            talk = Talk().connected()
            talk.command(0, "createStream", 2, None)
            talk.heard()
            with self.assertRaisesRegex(
                RemoteProtocolError, "stream name is missing, empty or longer than 1024"
            ):
                talk.command(1, "publish", 3, None, name, "live")
            assert talk.codes() == ["NetStream.Publish.BadName"]

    def test_refuses_message_streams_nobody_made_or_in_use(self) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, "publish on message stream 7, which createStream"):
            Talk().connected().command(7, "publish", 3, None, "key", "live")
        with self.assertRaisesRegex(RemoteProtocolError, "publish on message stream 1, which is in use"):
            Talk().publishing().command(1, "publish", 3, None, "key", "live")

    def test_bounds_create_stream(self) -> None:
        talk = Talk().connected()
        for _ in range(MAX_STREAMS):
            talk.command(0, "createStream", 2, None)
        with self.assertRaisesRegex(RemoteProtocolError, "more than 8 streams"):
            talk.command(0, "createStream", 2, None)

    def test_uses_deleted_stream_numbers_again(self) -> None:
        talk = Talk().connected()
        for _ in range(3 * MAX_STREAMS):
            talk.command(0, "createStream", 2, None)
            talk.command(0, "deleteStream", 3, None, 1)
        assert {command[3] for command in talk.commands() if len(command) > 3 and command[1] == 2.0} == {1.0}

    def test_ignores_delete_stream_of_what_is_none(self) -> None:
        talk = Talk().publishing()
        for number in (2, -1, float("nan"), float("inf"), None, "1", {}):
            assert talk.command(0, "deleteStream", 3, None, number) == []
        assert talk.message(9, 1, b"v") != []


class Playing(SynchronousTestCase):
    def test_from_request_to_media(self) -> None:
        talk = Talk().connected()
        talk.command(0, "createStream", 2, None)
        talk.command(0, "getStreamLength", 3, None, "show")
        talk.heard()
        (event,) = talk.command(1, "play", 4, None, "show?token=t", -1, 5, False)
        assert event == PlayRequested(1, "show?token=t", -1.0, 5.0, False, "live")
        assert (event.path, event.query) == ("show", "token=t")
        heard = talk.heard()
        assert [m.type_id for m in heard] == [4, 20, 18]
        talk.session.send_metadata(1, 0, {"width": 2.0})
        talk.session.send_video(1, 0x1000000, b"v" * 5000)
        talk.session.send_audio(1, 5, b"a")
        assert [(m.type_id, m.timestamp, len(m.payload)) for m in talk.heard()][1:] == [
            (9, 0x1000000, 5000),
            (8, 5, 1),
        ]

    def test_has_defaults(self) -> None:
        talk = Talk().connected()
        talk.command(0, "createStream", 2, None)
        talk.heard()
        assert talk.command(1, "play", 4, None, "show") == [
            PlayRequested(1, "show", -2.0, -1.0, True, "live")
        ]
        assert talk.codes() == ["NetStream.Play.Reset", "NetStream.Play.Start"]

    def test_may_be_refused(self) -> None:
        talk = Talk(answering=False)
        talk.connected()
        talk.session.accept_connect()
        talk.command(0, "createStream", 2, None)
        talk.command(1, "play", 3, None, "show")
        talk.heard()
        talk.session.reject_play(1, "No such stream.")
        assert talk.codes() == ["NetStream.Play.StreamNotFound"]

    def test_may_be_ended_by_either_side(self) -> None:
        for end in ("peer", "server"):
            talk = Talk().connected()
            talk.command(0, "createStream", 2, None)
            talk.command(1, "play", 4, None, "show")
            talk.heard()
            if end == "peer":
                assert talk.command(1, "closeStream", 0, None) == [PlayStopped(1)]
            else:
                talk.session.end_play(1)
                assert talk.codes() == ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop"]

    def test_does_not_let_the_player_send_media(self) -> None:
        talk = Talk().connected()
        talk.command(0, "createStream", 2, None)
        talk.command(1, "play", 4, None, "show")
        self.assertRaises(RemoteProtocolError, talk.message, 9, 1, b"v")


class SmallTalk(SynchronousTestCase):
    def test_pings_are_answered_and_answers_told(self) -> None:
        talk = Talk()
        assert talk.message(4, 0, b"\0\6\0\0\0\x2a") == []
        assert talk.heard()[0].payload == b"\0\7\0\0\0\x2a"
        talk.session.ping(77)
        assert talk.heard()[0].payload == b"\0\6\0\0\0\x4d"
        assert talk.message(4, 0, b"\0\7\0\0\0\x4d") == [PingAnswered(77)]

    def test_other_user_control_is_ignored(self) -> None:
        talk = Talk()
        for kind in (0, 1, 3, 26, 31, 32, 999):
            assert talk.message(4, 0, kind.to_bytes(2, "big") + bytes(8)) == []
        assert talk.heard() == []

    def test_unknown_commands_with_a_transaction_get_an_error(self) -> None:
        talk = Talk().connected()
        talk.heard()
        talk.command(0, "wat", 9, None)
        talk.command(0, "wat", 0, None)
        ((name, transaction, _, info),) = talk.commands()
        assert (name, transaction) == ("_error", 9.0)
        assert isinstance(info, dict)
        assert info["code"] == "NetConnection.Call.Failed"

    def test_messages_of_unknown_types_are_ignored(self) -> None:
        talk = Talk().connected()
        for type_id in (0, 7, 16, 19, 21, 99, 255):
            assert talk.message(type_id, 0, b"x") == []

    def test_acknowledgements_are_sent_by_the_peers_window(self) -> None:
        talk = Talk().publishing()
        talk.message(5, 0, (5000).to_bytes(4, "big"))
        talk.heard()
        for _ in range(6):
            talk.message(9, 1, bytes(2000))
        heard = [int.from_bytes(m.payload, "big") for m in talk.heard() if m.type_id == 3]
        assert len(heard) == 2
        assert 5000 <= heard[1] - heard[0] < 7500

    def test_acknowledgements_are_not_sent_for_every_byte(self) -> None:
        talk = Talk().publishing()
        talk.message(5, 0, (1).to_bytes(4, "big"))
        talk.heard()
        for _ in range(10):
            talk.message(9, 1, bytes(100))
        assert len(talk.heard()) <= 1

    def test_acknowledgements_wrap_at_32_bits(self) -> None:
        talk = Talk()
        talk.session._link._received = talk.session._link._reported = 0xFFFFFFF0
        talk.message(5, 0, (4096).to_bytes(4, "big"))
        talk.send(b"\x02" + bytes(11) + b"\x02" + bytes(11) * 400)
        (heard,) = (m for m in talk.heard() if m.type_id == 3)
        assert int.from_bytes(heard.payload, "big") < 0x10000

    def test_what_the_peer_leaves_unacknowledged_is_counted_and_bounded(self) -> None:
        talk = Talk().connected()
        assert talk.session.unacknowledged == 0  # a peer that never acknowledges is not held to it
        talk.session.count_sent(100 << 20)
        talk.message(3, 0, (100 << 20).to_bytes(4, "big"))
        before = talk.session.unacknowledged
        talk.session.count_sent(1000)
        assert talk.session.unacknowledged == before + 1000
        self.assertRaises(RemoteProtocolError, talk.session.count_sent, link.MAX_UNACKNOWLEDGED)

    def test_acknowledgements_that_run_ahead_are_taken_for_all(self) -> None:
        talk = Talk().connected()
        talk.message(3, 0, (1 << 30).to_bytes(4, "big"))
        assert talk.session.unacknowledged == 0

    def test_control_messages_that_are_too_short_are_refused(self) -> None:
        for type_id in (1, 2, 3, 4, 5):
            self.assertRaises(RemoteProtocolError, Talk().message, type_id, 0, b"\0")


ARGUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.sampled_from(["key", "live", "onMetaData", "code", "app", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["app", "fourCcList"]), inner)
    ),
    max_leaves=5,
)
COMMANDS = st.sampled_from(
    [
        "connect",
        "createStream",
        "publish",
        "play",
        "deleteStream",
        "closeStream",
        "FCPublish",
        "FCUnpublish",
        "releaseStream",
        "getStreamLength",
        "_checkbw",
        "_result",
        "onStatus",
        "@setDataFrame",
        "onMetaData",
        "x",
    ]
)
SAYINGS = st.tuples(
    st.sampled_from([20, 20, 20, 17, 18, 15, 8, 9]),
    st.integers(0, 3),
    st.tuples(COMMANDS, st.floats()).flatmap(
        lambda head: st.lists(ARGUMENTS, max_size=4).map(lambda a: [*head, *a])
    ),
)


class AnyTalk(SynchronousTestCase):
    @given(
        st.lists(SAYINGS, max_size=20),
        st.lists(st.tuples(st.integers(4, 6), st.binary(max_size=8)), max_size=2),
    )
    @settings(max_examples=150, deadline=None)
    def test_raises_nothing_but_the_named_error(
        self, sayings: list[tuple[int, int, list[object]]], controls: list[tuple[int, bytes]]
    ) -> None:
        talk = Talk().connected()
        try:
            talk.command(0, "createStream", 2, None)
            for type_id, stream_id, values in sayings:
                talk.message(type_id, stream_id, amf.encode(*values))
            for type_id, payload in controls:
                talk.message(type_id, 0, payload)
        except RemoteProtocolError:
            pass
        talk.heard()  # what it was told is well-formed


class OurMisuse(SynchronousTestCase):
    def test_answers_to_nothing_are_our_fault(self) -> None:
        session = Talk().publishing().session
        for answer in (
            session.accept_connect,
            lambda: session.reject_connect("x"),
            lambda: session.accept_publish(1),
            lambda: session.accept_play(1),
            lambda: session.reject_publish(9, "x"),
            lambda: session.end_play(1),
        ):
            self.assertRaises(LocalProtocolError, answer)


class Secrets(SynchronousTestCase):
    """A key is in no repr and in no error."""

    KEY = "sk-very-secret"

    def test_are_in_no_repr_of_an_event(self) -> None:
        talk = Talk()
        talk.command(0, "connect", 1, {"app": f"live?{self.KEY}", "tcUrl": f"rtmp://h/live?{self.KEY}"})
        talk.command(0, "createStream", 2, None)
        talk.command(1, "publish", 3, None, self.KEY, "live")
        talk.command(0, "createStream", 4, None)
        talk.command(2, "play", 5, None, self.KEY)
        talk.message(18, 1, amf.encode("onMetaData", {"x": self.KEY}))
        talk.message(9, 1, self.KEY.encode())
        assert len(talk.events) == 5
        assert self.KEY not in repr(talk.events)
        assert self.KEY not in str(talk.events)

    def test_are_in_no_error(self) -> None:
        for values in (
            ("publish", 3, None, self.KEY * 100, "live"),
            ("publish", 3, None, [self.KEY], "live"),
            (self.KEY,),
            ({self.KEY: 1}, 1),
        ):
            talk = Talk().connected()
            talk.command(0, "createStream", 2, None)
            error = self.assertRaises(RemoteProtocolError, talk.command, 1, *values)
            assert self.KEY not in str(error)
            assert error.__cause__ is None
