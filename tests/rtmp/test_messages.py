"""Message bodies: aggregates, user control, and AMF3 envelopes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats import amf, flv
from oxidecast.media.errors import RemoteProtocolError
from oxidecast.rtmp import messages
from oxidecast.rtmp.messages import Message


def aggregate(timestamp: int, *tags: tuple[int, int, bytes]) -> Message:
    return Message(22, 5, timestamp, b"".join(flv.file_tag(*tag) for tag in tags))


class Aggregates(SynchronousTestCase):
    """7.1.6."""

    def test_move_their_parts_to_their_own_time(self) -> None:
        parts = messages.split_aggregate(aggregate(5000, (8, 100, b"a"), (9, 140, b"bc"), (18, 90, b"")))
        assert [(m.type_id, m.stream_id, m.timestamp, m.payload) for m in parts] == [
            (8, 5, 5000, b"a"),
            (9, 5, 5040, b"bc"),
            (18, 5, 4990, b""),
        ]

    def test_wrap_at_32_bits(self) -> None:
        parts = messages.split_aggregate(aggregate(0xFFFFFFFF, (8, 0, b""), (8, 2, b"")))
        assert [m.timestamp for m in parts] == [0xFFFFFFFF, 1]

    def test_may_lack_the_last_back_pointer(self) -> None:
        whole = aggregate(0, (8, 0, b"a"))
        assert len(messages.split_aggregate(Message(22, 5, 0, whole.payload[:-4]))) == 1

    def test_of_nothing_have_no_parts(self) -> None:
        assert messages.split_aggregate(Message(22, 1, 0, b"")) == []

    def test_that_are_broken_are_refused_by_name(self) -> None:
        for payload, sentence in [
            (b"\x08", "ends inside a tag header"),
            (b"\x08\0\0\x09" + bytes(7), "a tag longer than itself"),
            (flv.file_tag(22, 0, b""), "a message of type 22"),
            (flv.file_tag(20, 0, b""), "a message of type 20"),
            (flv.file_tag(8, 0, b"") * 1025, "more than 1024 messages"),
        ]:
            error = self.assertRaises(
                RemoteProtocolError, messages.split_aggregate, Message(22, 1, 0, payload)
            )
            assert sentence in str(error), error

    @given(st.binary(max_size=100))
    @settings(max_examples=100, deadline=None)
    def test_raise_nothing_but_the_named_error(self, payload: bytes) -> None:
        try:
            messages.split_aggregate(Message(22, 1, 0, payload))
        except RemoteProtocolError:
            pass


class Bodies(SynchronousTestCase):
    def test_of_amf3_commands_stand_behind_a_zero(self) -> None:
        body = amf.encode("connect", 1)
        for type_id in (15, 17):
            for payload in (b"\0" + body, body):
                assert messages.values(Message(type_id, 0, 0, payload)) == ["connect", 1.0]

    def test_of_commands_are_bounded(self) -> None:
        message = Message(20, 0, 0, bytes(messages.MAX_AMF_MESSAGE + 1))
        error = self.assertRaises(RemoteProtocolError, messages.values, message)
        assert "is longer than 262144 bytes" in str(error)

    def test_of_user_control_have_a_type_and_a_number(self) -> None:
        read = messages.user_control
        assert read(Message(4, 0, 0, b"\0\6\0\0\1\2")) == (6, 0x102, b"\0\0\1\2")
        assert read(Message(4, 0, 0, b"\0\x1a\1")) == (26, 1, b"\1")
        self.assertRaises(RemoteProtocolError, read, Message(4, 0, 0, b"\0"))

    def test_of_control_messages_have_four_bytes(self) -> None:
        assert messages.uint32(Message(5, 0, 0, b"\0\0\1\0"), "Window") == 256
        error = self.assertRaises(RemoteProtocolError, messages.uint32, Message(5, 0, 0, b"\0"), "Window")
        assert str(error) == "Window message is shorter than 4 bytes"

    def test_do_not_show_in_a_repr(self) -> None:
        assert "secret" not in repr(Message(20, 0, 0, b"secret"))
