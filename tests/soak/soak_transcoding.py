"""Ten minutes of sound and pictures through the transcoder's child, and a minute of damage: `make soak`.

The short forms are in `tests/transcoding/`.
"""

from typing import Any

from oxidecast.formats.framed import FramedPacket
from oxidecast.formats.framed_messages import Figures
from oxidecast.media import TICKS
from tests.e2e import test_ladder_recovery
from tests.transcoding.child import Made, beeps, flashes, job, run, small
from tests.transcoding.clips import FLASH, audio, clip, later, plain, video
from tests.transcoding.test_worker_faults import damaged
from tests.transcoding.test_worker_sound import AAC, OPUS
from tests.transcoding.test_worker_video import WorkerCase

LONG = 600
GAP = range(200, 230)
"""Seconds without sound."""

MOST_APART = 0.040


def near_beeps(frames: list[Any]) -> list[Any]:
    """The sound around whole seconds, where beeps are: the rest is a minute's work to look at."""
    margin = 0.1
    return [one for one in frames if (one.pts / TICKS + margin) % 1 < FLASH + 3 * margin]


class TestLong(WorkerCase):
    def sync(self, what: str, made: Made, missing: range = range(0)) -> None:
        """Each flash has its beep, within what is allowed."""
        shown = flashes(made.decoded(1))
        expected = [at for at in shown if round(at) - 1 not in missing]
        for feed, name in ((128, "AAC"), (129, "Opus")):
            heard = beeps(near_beeps(made.decoded(feed)))
            self.assertEqual(len(heard), len(expected))
            apart = sorted(abs(one - other) for one, other in zip(heard, expected, strict=True))
            print(f"{what}, {name}: {len(heard)} beeps, at most {1000 * apart[-1]:.2f} ms from their flashes")
            self.assertLess(apart[-1], MOST_APART)

    def test_ten_minutes(self) -> None:
        source = clip(video(LONG, bframes=2, gop=2), audio(LONG))
        made = self.of(source, small(1), AAC, OPUS)
        self.assertEqual(len(made.packets(1)), len(source.video))
        self.assertEqual(made.keyframes(1), source.keyframes)
        memory = [figures.rss >> 20 for figures in made.of(Figures)]
        print(f"memory {memory[1]} MiB at first, {memory[-1]} at the end")
        self.assertLess(memory[-1], memory[1] + 30)
        self.sync("ten minutes", made)

    def test_ten_minutes_of_everything(self) -> None:
        """B-frames, variable frame rate, 44.1 kHz mono, and half a minute without sound."""
        pictures = video(LONG, bframes=2, gop=2, keep=lambda number: number % 30 < 9 or number % 4 == 0)
        source = clip(pictures, audio(LONG, rate=44_100, layout="mono"))
        source.packets = [
            packet
            for packet in source.packets
            if packet.track_id == 1 or not GAP.start - 0.5 < packet.pts / TICKS - 1 < GAP.stop - 0.5
        ]
        made = self.of(source, small(1), AAC, OPUS)
        self.sync("ten minutes of everything", made, GAP)

    def test_a_minute_of_damage(self) -> None:
        source = plain()
        items: list[Any] = [job(small(1), AAC), *source.tracks]
        for at in range(20):
            items += later(damaged(source.packets, seed=at, every=2), at * 3 * TICKS)
        good: list[FramedPacket] = list(later(source.packets, 60 * TICKS))
        made = run([*items, *good])
        self.assertEqual(made.code, 0)
        after = [packet for packet in made.packets(1) if packet.pts >= 61 * TICKS]
        self.assertEqual(len(after), len(source.video))
        print(
            f"{made.figures.errors} packets refused, {len(made.packets(1)) - len(after)} pictures made of 1800"
        )


class TestLongDamage(test_ladder_recovery.DamageTests):
    """Published by RTMP, to a whole server."""

    seconds = 60
