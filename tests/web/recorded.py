"""A recording that is there: a row, and a file of some bytes."""

import os
from datetime import UTC, datetime
from typing import Any

import msgspec

from oxidecast.database.recordings import Recording, Recordings
from oxidecast.database.records import new_id
from oxidecast.delivery.stored import Store
from oxidecast.settings.sections import StorageSettings

BODY = bytes(range(256)) * 4


def store(server: Any) -> Store:
    foundation = server.foundation
    return Store(foundation.settings.of(StorageSettings).recordings(foundation.data_directory))


async def recorded(
    server: Any, owner_id: str | None, stream_id: str | None = None, body: bytes = BODY, **values: Any
) -> Recording:
    """`values` replace those of the row."""
    recording_id = new_id()
    one = Recording(
        id=recording_id,
        stream_id=stream_id,
        owner_id=owner_id,
        title="Birds",
        path=f"some-stream/show-20261124T120000Z-{recording_id}.mp4",
        state="complete",
        started_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        ended_at=datetime(2026, 11, 24, 13, tzinfo=UTC),
        duration=3600.0,
        size=len(body),
    )
    one = msgspec.structs.replace(one, **values)
    file = store(server).create(one.path)
    os.write(file, body)
    os.close(file)
    await Recordings(server.foundation.database, server.foundation.reactor).add(one)
    return one
