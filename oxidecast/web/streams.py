"""`/streams`: the list, one stream, making one, and where to watch it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from oxidecast.accounts.keys import StreamKeys
from oxidecast.accounts.roles import Permission
from oxidecast.database.streams import StreamRepository
from oxidecast.interfaces import IIngest, PlayRequest, Refused
from oxidecast.media import Track
from oxidecast.registry import Registry
from oxidecast.streams.hub import Hub
from oxidecast.streams.info import StreamInfo
from oxidecast.streams.stream import Stream
from oxidecast.web.api import ApiError, Call, Page, Reply, Route, not_found, unauthorised
