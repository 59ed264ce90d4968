"""FEC: the header byte by byte, losses against a plain model of what a matrix can repair, hostile packets."""

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oxidecast.formats.fec import FECDecoder, FECGenerator, FECPacket, Matrix
from oxidecast.formats.fec.decoder import _MOST_WAITING
from oxidecast.formats.rtp import RTPPacket, TSWrapper
from oxidecast.media import LocalProtocolError, RemoteProtocolError
from tests.formats.fec_losses import COLUMN, ROW, Sender, beyond_repair, payloads

MATRICES = st.sampled_from(
    ["4x4", "5x4", "10x10", "20x5", "5x20", "1x4 columns", "7x6 columns", "20x4 columns"]
)


def receive(decoder: FECDecoder, sent: Iterable[tuple[str | int, bytes]]) -> list[bytes]:
    packets = []
    for what, data in sent:
        packets += decoder.fec(data) if isinstance(what, str) else decoder.media(data)
    return packets + decoder.flush()


class MatrixTests(SynchronousTestCase):
    def test_settings(self) -> None:
        self.assertEqual(Matrix.parse("10x8"), Matrix(10, 8))
        self.assertEqual(Matrix.parse("1x20 columns"), Matrix(1, 20, both=False))
        for text in ["10x8", "20x5", "1x20 columns"]:
            self.assertEqual(str(Matrix.parse(text)), text)

    def test_what_is_no_matrix(self) -> None:
        for text in ["", "10", "10x", "x10", "10X10", "10x10 rows", "-5x5", "٥x5", "100x1", "5x5\n", "5 x 5"]:
            with self.subTest(text=text), self.assertRaisesRegex(LocalProtocolError, "looks like"):
                Matrix.parse(text)

    def test_matrices_beyond_the_standard(self) -> None:
        for text in [
            "11x10",
            "20x6",
            "3x5",
            "4x3",
            "4x21",
            "21x4",
            "0x4 columns",
            "1x3 columns",
            "21x4 columns",
        ]:
            with self.subTest(text=text), self.assertRaisesRegex(LocalProtocolError, "does not exist"):
                Matrix.parse(text)


class GeneratorTests(SynchronousTestCase):
    def test_a_row_byte_by_byte(self) -> None:
        generator = FECGenerator(Matrix(4, 4), row_sequence=0xFFFF)
        media = [
            bytes(RTPPacket(33, 0xFFFE + n & 0xFFFF, 0x01000000 + n, 9, bytes((1 << n,)) * (2 + n % 3)))
            for n in range(4)
        ]
        columns, rows = generator.protect(media)
        self.assertEqual(columns, [])
        self.assertEqual(
            rows[0].hex(" ", 4),
            bytes.fromhex(
                "80 60 ffff 01000003 00000000"  # RTP: payload type 96, the last packet's time, SSRC 0
                "fffe 0007"  # SNBase; 2 ^ 3 ^ 4 ^ 2 bytes
                "80 000000"  # E; 33 ^ 33 ^ 33 ^ 33; no mask
                "00000000"  # the four times
                "40 01 04 00"  # D: a row; offset; NA; SNBase ext
                "0f0f 0604"
            ).hex(" ", 4),
        )

    def test_a_column_names_its_packets(self) -> None:
        sender = Sender(Matrix(5, 4), payloads(40), sequence=0xFFF0)
        columns = [packet for packet in sender.fec() if not packet.row]
        self.assertEqual([packet.base for packet in columns], [0xFFF0 + n & 0xFFFF for n in range(5)])
        self.assertEqual({(packet.offset, packet.count, packet.length) for packet in columns}, {(5, 4, 0)})
        self.assertEqual([packet.sequence for packet in columns], list(range(5)))

    def test_odd_rows_keep_the_payload_type_and_length(self) -> None:
        row = next(packet for packet in Sender(Matrix(5, 5), payloads(5)).fec() if packet.row)
        self.assertEqual((row.kind, row.length), (33, 60))

    def test_markers_and_flags_are_summed(self) -> None:
        packet = RTPPacket(33, 0, 0, 1, b"data", marker=True, csrc=(7,), extension=(1, b""), padding=3)
        media = [bytes(packet), *(bytes(RTPPacket(33, n, 0, 1, b"data")) for n in range(1, 4))]
        fec = FECPacket.parse(FECGenerator(Matrix(4, 4)).protect(media)[1][0])
        self.assertEqual((fec.flags, fec.kind), (0x31, 0x80))

    def test_columns_are_spread_over_the_next_matrix(self) -> None:
        matrix = Matrix(10, 8)
        sent = Sender(matrix, payloads(400)).sent
        media = [number for number, (what, _) in enumerate(sent) if isinstance(what, int)]
        columns = [number for number, (what, _) in enumerate(sent) if what == COLUMN]
        before = [sum(other < number for other in media) for number in columns]
        self.assertEqual(before, [81 + 8 * n for n in range(40)])

    def test_a_row_follows_at_once(self) -> None:
        sent = [what for what, _ in Sender(Matrix(4, 4), payloads(16)).sent]
        self.assertEqual([number for number, what in enumerate(sent) if what == ROW], [4, 9, 14, 19])

    def test_columns_only(self) -> None:
        sender = Sender(Matrix(1, 4, both=False), payloads(16))
        self.assertEqual([(p.row, p.offset, p.count, p.base) for p in sender.fec()],
                         [(False, 1, 4, 0), (False, 1, 4, 4), (False, 1, 4, 8)])  # fmt: skip

    def test_batches_make_no_difference(self) -> None:
        media = TSWrapper(1).wrap(payloads(100), 0)
        whole = FECGenerator(Matrix(5, 5)).protect(media)
        generator, pieces = FECGenerator(Matrix(5, 5)), ([], [])
        for first in range(0, 100, 7):
            for all, some in zip(pieces, generator.protect(media[first : first + 7]), strict=True):
                all += some
        self.assertEqual([len(p) for p in pieces], [len(p) for p in whole])
        for one, other in zip(pieces[0] + pieces[1], whole[0] + whole[1], strict=True):
            # The clock of a FEC packet is that of the packet it leaves behind: the same in any batch.
            self.assertEqual(one, other)


class FECPacketTests(SynchronousTestCase):
    GOOD = bytes.fromhex("80600001 00000002 00000000 0003 0004 a1000000 00000005 40010500 aabb")

    def test_round_trip(self) -> None:
        packet = FECPacket.parse(self.GOOD)
        self.assertEqual(packet, FECPacket(1, 2, 3, True, 1, 5, 0, 33, 5, 4, b"\xaa\xbb"))
        self.assertEqual(bytes(packet), self.GOOD)

    def test_the_base_has_24_bits(self) -> None:
        self.assertEqual(FECPacket.parse(self.GOOD[:27] + b"\x02").base, 0x020003)

    def test_what_is_malformed_is_named(self) -> None:
        for place, byte, sentence in [
            (0, 0x40, "version of a FEC packet is 1"),
            (16, 0x21, "no extended header"),
            (24, 0x80, "not made by XOR .N is 1"),
            (24, 0x08, "not made by XOR .N is 0, type 1"),
            (25, 0, "offset 0 and NA 5"),
            (25, 2, "offset 2 and NA 5"),
            (26, 0, "offset 1 and NA 0"),
            (26, 101, "offset 1 and NA 101"),
        ]:
            data = self.GOOD[:place] + bytes((byte,)) + self.GOOD[place + 1 :]
            with self.subTest(place=place, byte=byte), self.assertRaisesRegex(RemoteProtocolError, sentence):
                FECPacket.parse(data)
        for size in (0, 12, 27):
            with (
                self.subTest(size=size),
                self.assertRaisesRegex(RemoteProtocolError, "less than its headers"),
            ):
                FECPacket.parse(self.GOOD[:size])

    def test_what_no_header_can_say_is_our_fault(self) -> None:
        with self.assertRaises(LocalProtocolError):
            bytes(FECPacket(1, 2, 1 << 24, True, 1, 5, 0, 33, 5, 4, b""))

    @given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda tail: FECPacketTests.GOOD[:25] + tail))
    @settings(max_examples=200, deadline=None)
    def test_any_bytes_parse_or_are_refused(self, data: bytes) -> None:
        try:
            packet = FECPacket.parse(data)
        except RemoteProtocolError:
            return
        self.assertEqual(FECPacket.parse(bytes(packet)), packet)


class RecoveryTests(SynchronousTestCase):
    """What is lost, in a stream of 10 x 10 that begins shortly before sequence numbers and times wrap."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.sender = Sender(Matrix(10, 10), payloads(450), sequence=0xFF80, time=0xFFFFFFFF - 100 * 47)

    def recover(self, lost: set[int], without: str = "") -> FECDecoder:
        decoder = FECDecoder()
        sent = [(what, data) for what, data in self.sender.sent if what not in lost and what != without]
        packets = receive(decoder, sent)
        self.assertEqual(packets, self.sender.media)
        self.assertEqual((decoder.recovered, decoder.lost, decoder.refused), (len(lost), 0, 0))
        return decoder

    def test_nothing(self) -> None:
        self.recover(set())

    def test_each_single_packet(self) -> None:
        for number in range(100, 200):
            self.recover({number})

    def test_each_burst_as_long_as_a_row_by_columns_alone(self) -> None:
        for first in range(100, 200):
            self.recover(set(range(first, first + 10)), without=ROW)

    def test_one_packet_in_each_row_by_rows_alone(self) -> None:
        for seed in range(20):
            source = random.Random(seed)
            self.recover({row * 10 + source.randrange(10) for row in range(1, 40)}, without=COLUMN)

    def test_a_burst_and_one_more(self) -> None:
        for seed in range(100):
            source = random.Random(seed)
            first = source.randrange(100, 190)
            burst = set(range(first, first + 10))
            self.recover(burst | {source.choice([n for n in range(100, 200) if n not in burst])})

    def test_a_staircase_needs_every_turn(self) -> None:
        # Two in each row and column but one: one repair makes the next one possible, nineteen times.
        lost = {100 + 11 * n for n in range(10)} | {101 + 11 * n for n in range(9)}
        self.recover(lost)

    def test_each_two_packets(self) -> None:
        source = random.Random(2)
        for _ in range(50):
            self.recover(set(source.sample(range(100, 200), 2)))

    def test_a_rectangle_is_lost_and_nothing_else_is(self) -> None:
        lost = {122, 125, 152, 155}
        decoder = FECDecoder()
        packets = receive(decoder, [item for item in self.sender.sent if item[0] not in lost | {133}])
        self.assertEqual(packets, [data for n, data in enumerate(self.sender.media) if n not in lost])
        self.assertEqual((decoder.recovered, decoder.lost), (1, 4))

    def test_a_whole_matrix_is_lost_and_the_next_one_is_repaired(self) -> None:
        gone, repaired = set(range(100, 200)), {205, 333}
        decoder = FECDecoder()
        packets = receive(decoder, [item for item in self.sender.sent if item[0] not in gone | repaired])
        self.assertEqual(packets, [data for n, data in enumerate(self.sender.media) if n not in gone])
        self.assertEqual((decoder.recovered, decoder.lost), (2, 100))

    @given(MATRICES, st.integers(0, 0xFFFF), st.integers(0, 2**32), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
    @settings(max_examples=60, deadline=None)
    def test_all_that_can_be_repaired_is(self, text: str, start: int, seed: int, loss: float) -> None:
        """Random losses of media and FEC against the plain model, packet by packet."""
        matrix, source = Matrix.parse(text), random.Random(seed)
        size = matrix.columns * matrix.rows
        sender = Sender(matrix, payloads(6 * size, 24), start, seed)
        # The first packet shows where the stream begins.
        arrived = [item for item in sender.sent if source.random() > loss or item[0] == 0]
        lost = set(range(6 * size)) - {what for what, _ in arrived}
        groups = []
        for what, data in arrived:
            if isinstance(what, str):
                fec = FECPacket.parse(data)
                base = fec.base - start & 0xFFFF
                groups.append({base + n * fec.offset for n in range(fec.count)})
        gone = beyond_repair(lost, groups)
        decoder = FECDecoder(size)
        packets = receive(decoder, arrived)
        self.assertEqual(packets, [data for n, data in enumerate(sender.media) if n not in gone])
        self.assertEqual(decoder.refused, 0)
        # What is lost behind the last packet is not known to have existed.
        self.assertEqual(decoder.recovered, len(lost - gone))


class DecoderTests(SynchronousTestCase):
    def test_without_loss_every_packet_is_handed_out_at_once(self) -> None:
        sender, decoder = Sender(Matrix(5, 5), payloads(60)), FECDecoder()
        for what, data in sender.sent:
            self.assertEqual(
                decoder.fec(data) if isinstance(what, str) else decoder.media(data),
                [] if isinstance(what, str) else [data],
            )

    def test_a_repaired_packet_is_handed_out_before_the_next_ones(self) -> None:
        sender, decoder = Sender(Matrix(4, 4), payloads(16)), FECDecoder()
        out = [decoder.media(data) for data in sender.media[:2]] + [decoder.media(sender.media[3])]
        self.assertEqual(out, [[sender.media[0]], [sender.media[1]], []])
        row = next(data for what, data in sender.sent if what == ROW)
        self.assertEqual(decoder.fec(row), sender.media[2:4])

    def test_packets_of_different_lengths_and_kinds(self) -> None:
        media = [
            bytes(
                RTPPacket(
                    33, n, n * 7, 5, bytes((n,)) * (3 * n % 50), n % 3 == 0, (n,) * (n % 4), None, n % 5
                )
            )
            for n in range(16)
        ]
        _, rows = FECGenerator(Matrix(4, 4)).protect(media)
        for lost in range(1, 16):
            sent = [(n, data) for n, data in enumerate(media) if n != lost] + [(ROW, row) for row in rows]
            with self.subTest(lost=lost):
                self.assertEqual(receive(FECDecoder(), sent), media)

    def test_order_on_the_way_does_not_matter(self) -> None:
        sender = Sender(Matrix(5, 5), payloads(100))
        lost = {26, 27, 28, 29, 30, 44, 60}
        for seed in range(20):
            source, decoder = random.Random(seed), FECDecoder(25)
            sent = [item for item in sender.sent if item[0] not in lost]
            late = [n + source.uniform(0, 20) for n in range(len(sent))]
            late[0] = 0
            shuffled = [sent[n] for n in sorted(range(len(sent)), key=late.__getitem__)]
            with self.subTest(seed=seed):
                self.assertEqual(receive(decoder, shuffled), sender.media)

    def test_duplicates_are_handed_out_once(self) -> None:
        sender = Sender(Matrix(5, 5), payloads(100))
        sent = [item for item in sender.sent if item[0] not in (31, 32)]
        twice = [item for pair in zip(sent, sent, strict=True) for item in pair]
        self.assertEqual(receive(FECDecoder(), twice), sender.media)

    def test_a_hole_holds_the_stream_for_two_matrices(self) -> None:
        media, decoder = TSWrapper(1).wrap(payloads(200), 0), FECDecoder(25)
        handed = [len(decoder.media(data)) for data in media[:10] + media[11:]]
        waited = next(n for n, count in enumerate(handed) if n >= 10 and count)
        self.assertEqual(waited - 10, 2 * 25 + 50 - 1)
        self.assertEqual(handed[waited], 2 * 25 + 50)
        self.assertEqual(decoder.lost, 1)

    def test_fec_before_any_media_is_nothing(self) -> None:
        self.assertEqual(FECDecoder().fec(FECPacketTests.GOOD), [])

    def test_fec_of_another_stream_is_refused(self) -> None:
        ours, other = Sender(Matrix(4, 4), payloads(16)), FECGenerator(Matrix(4, 4))
        alien = other.protect([bytes(RTPPacket(96 + n % 2, n, 0, 1, b"x" * (n + 1))) for n in range(16)])[1]
        decoder = FECDecoder()
        packets = receive(decoder, [*((n, d) for n, d in enumerate(ours.media) if n != 2), (ROW, alien[0])])
        self.assertEqual(packets, [data for n, data in enumerate(ours.media) if n != 2])
        self.assertEqual((decoder.refused, decoder.recovered, decoder.lost), (1, 0, 1))

    def test_a_restarted_sender_is_followed_after_two_packets(self) -> None:
        for ssrc, sequence in [(1, 40_000), (2, 8), (2, 40_000)]:
            decoder = FECDecoder()
            old = TSWrapper(1).wrap(payloads(10), 0)
            new = TSWrapper(ssrc, sequence).wrap(payloads(10, seed=2), 0)
            packets = receive(decoder, list(enumerate(old + new)))
            with self.subTest(ssrc=ssrc, sequence=sequence):
                self.assertEqual(packets, old + new[1:])

    def test_one_stray_packet_changes_nothing(self) -> None:
        media, decoder = TSWrapper(1).wrap(payloads(10), 0), FECDecoder()
        strays = [bytes(RTPPacket(33, 30_000, 0, 1)), bytes(RTPPacket(33, 5, 0, 99))]
        self.assertEqual(receive(decoder, list(enumerate(media[:5] + strays + media[5:]))), media)

    def test_a_stream_lasts_longer_than_its_sequence_numbers(self) -> None:
        # Round and a bit; a packet in 97 is lost, and its row brings it back.
        wrapper, generator, decoder = TSWrapper(1), FECGenerator(Matrix(20, 5)), FECDecoder()
        handed = count = 0
        while count < 70_000:
            packets = wrapper.wrap([b"%d" % (count + n) for n in range(20)], count)
            columns, rows = generator.protect(packets)
            for number, packet in enumerate(packets, count):
                if number % 97 != 50:
                    handed += len(decoder.media(packet))
            for packet in columns + rows:
                handed += len(decoder.fec(packet))
            count += 20
        self.assertEqual((handed, decoder.lost), (count, 0))

    @given(st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None)
    def test_hostile_packets_cost_little_and_say_what_is_wrong(self, seed: int) -> None:
        source, decoder = random.Random(seed), FECDecoder()
        sender = Sender(Matrix(10, 10), payloads(250, 20), seed & 0xFFFF)
        for what, data in sender.sent:
            if source.random() < 0.3:
                changed = bytearray(data)
                for _ in range(source.randrange(1, 4)):
                    changed[source.randrange(len(changed))] = source.randrange(256)
                data = bytes(
                    changed[: source.randrange(len(changed) + 1)] if source.random() < 0.2 else changed
                )
            try:
                receiver = decoder.fec if isinstance(what, str) else decoder.media
                packets = receiver(data)
            except RemoteProtocolError:
                continue
            for packet in packets:
                RTPPacket.parse(packet)
            self.assertLessEqual(len(decoder._packets), 3 * 250)
            self.assertLessEqual(len(decoder._waiting), _MOST_WAITING)

    def test_waiting_fec_is_bounded(self) -> None:
        decoder = FECDecoder()
        for number in (0, 200):
            decoder.media(bytes(RTPPacket(33, number, 0, 1)))
        for base in range(1, 190):
            for count in range(2, 11):
                fec = FECPacket(0, 0, base, False, 10, count, 0, 33, 0, 0, b"")
                decoder.fec(bytes(fec))
        self.assertEqual(len(decoder._waiting), _MOST_WAITING)
