"""What the API and Prometheus say of a ladder."""

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from oxidecast.transcoding.ladder import Ladder


class MadeStats(msgspec.Struct, frozen=True, kw_only=True):
    """One rendition; counts are since its child began. `frame_rate_in` and `frame_rate_out` are pictures a second of
    the stream over the last ten seconds, and `speed` how many times faster than the stream its encoder could go, where
    the child encodes itself."""

    name: str
    taken: int
    made: int
    left_out: int
    dropped: int
    duplicated: int
    queue: int
    frame_rate_in: float
    frame_rate_out: float
    speed: float | None


class LadderStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream's qualities are made: in which state the child is, with which encoder, and what it takes."""

    state: str
    backend: str
    fallback: str | None
    restarts: int
    cpu_seconds: float
    resident_bytes: int
    decoded: int
    errors: int
    packets_dropped: int
    left_out: dict[str, str]
    renditions: list[MadeStats]


class BackendStats(msgspec.Struct, frozen=True, kw_only=True):
    """One family of encoders: `state` is `works`, `unavailable` or `not tried yet`; `detail` says what was found."""

    name: str
    state: str
    detail: str


def stats_of(ladder: "Ladder") -> LadderStats | None:
    """None where nothing is made, and nothing waits to be."""
    supervisor, renditions = ladder.supervisor, ladder.renditions
    if supervisor is None or renditions is None:
        return _idle(ladder) if ladder.full else None
    figures = renditions.figures_now
    return LadderStats(
        state=supervisor.state,
        backend=ladder.backend.name,
        fallback=ladder.fallback or None,
        restarts=ladder.restarts,
        cpu_seconds=figures.cpu if figures else 0.0,
        resident_bytes=figures.rss if figures else 0,
        decoded=figures.decoded if figures else 0,
        errors=figures.errors if figures else 0,
        packets_dropped=supervisor.dropped,
        left_out=dict(ladder.left_out),
        renditions=[_made(ladder, one.name, one.video) for one in ladder.plan],
    )


def _idle(ladder: "Ladder") -> LadderStats:
    return LadderStats(
        state="waiting for a place",
        backend=ladder.backend.name if ladder.backend is not None else "",
        fallback=ladder.fallback or None,
        restarts=ladder.restarts,
        cpu_seconds=0.0,
        resident_bytes=0,
        decoded=0,
        errors=0,
        packets_dropped=0,
        left_out=dict(ladder.left_out),
        renditions=[],
    )


def _made(ladder: "Ladder", name: str, feed: int) -> MadeStats:
    assert ladder.renditions is not None
    now = ladder.renditions.of_feed(feed)
    lately = ladder.renditions.lately(feed)
    if now is None or lately is None:
        return MadeStats(
            name=name,
            taken=0,
            made=0,
            left_out=0,
            dropped=0,
            duplicated=0,
            queue=0,
            frame_rate_in=0.0,
            frame_rate_out=0.0,
            speed=None,
        )
    return MadeStats(
        name=name,
        taken=now.taken,
        made=now.made,
        left_out=now.left_out,
        dropped=now.dropped,
        duplicated=now.duplicated,
        queue=now.queue,
        frame_rate_in=round((lately.taken + lately.left_out) / lately.media, 2) if lately.media else 0.0,
        frame_rate_out=round(lately.made / lately.media, 2) if lately.media else 0.0,
        speed=round(lately.media / lately.busy, 2) if lately.busy else None,
    )
