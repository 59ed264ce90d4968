"""[webhooks]: who hears of events, and who is asked whether somebody may publish or play."""

import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from oxidecast.settings.section import MINIMUM_SECRET, Invalid, Section, require_long_secret
from oxidecast.webhooks.signature import WrongSecret, key_of

MOST_ENDPOINTS = 20
"""Each has a queue, a connection at a time and labels in the metrics."""
LONGEST_URL = 2048
LONGEST_TIMEOUT = 15.0
"""Seconds: an encoder that waits longer for its `publish` gives up, and so does the RTMP port
(`rtmp.publish_timeout`)."""

EventType = Literal[
    "stream.started",
    "stream.stopped",
    "stream.notice",
    "publish.refused",
    "recording.closed",
    "viewers.changed",
]
EVENTS: tuple[EventType, ...] = (
    "stream.started",
    "stream.stopped",
    "stream.notice",
    "publish.refused",
    "recording.closed",
    "viewers.changed",
)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?", re.ASCII)


class EndpointSettings(Section, frozen=True, kw_only=True):
    """One [[webhooks.endpoints]]: an address that events are posted to."""

    # Many services put a password of theirs into the path of the address.
    secrets: ClassVar[frozenset[str]] = frozenset({"url", "secret"})

    name: str
    url: str
    secret: str
    events: tuple[EventType, ...] = EVENTS
    allow_private: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Invalid("name", 'must be at most 32 small letters, digits, "-" and "_"')
        check_url(self.url)
        check_secret(self.secret)


class DeciderSettings(Section, frozen=True, kw_only=True):
    """[webhooks.on_publish]: an address that is asked; without a URL nobody is."""

    secrets: ClassVar[frozenset[str]] = frozenset({"url", "secret"})

    url: str = ""
    secret: str = ""
    on_failure: Literal["allow", "deny"] = "deny"
    timeout: Annotated[float, Meta(gt=0, le=LONGEST_TIMEOUT)] = 5.0
    allow_private: bool = False

    def __post_init__(self) -> None:
        if self.url:
            check_url(self.url)
            check_secret(self.secret)


class PlayDeciderSettings(DeciderSettings, frozen=True, kw_only=True):
    """[webhooks.on_play]"""

    send_token: bool = False


class WebhooksSettings(Section, frozen=True, kw_only=True):
    """[webhooks]"""

    endpoints: tuple[EndpointSettings, ...] = ()
    on_publish: DeciderSettings = DeciderSettings()
    on_play: PlayDeciderSettings = PlayDeciderSettings()

    def __post_init__(self) -> None:
        if len(self.endpoints) > MOST_ENDPOINTS:
            raise Invalid("endpoints", f"must be at most {MOST_ENDPOINTS}")
        if len({endpoint.name for endpoint in self.endpoints}) < len(self.endpoints):
            raise Invalid("endpoints", "must have names that differ")


def check_url(url: str) -> None:
    """Raise Invalid for what cannot be posted to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid("url", 'must be an address such as "https://example.com/hook"')
    if len(url) > LONGEST_URL or not all("!" <= char <= "~" for char in url) or "\\" in url:
        raise Invalid(
            "url", f"must be at most {LONGEST_URL} characters of ASCII without blanks; encode others"
        )
    if parts.username is not None or parts.fragment:
        raise Invalid("url", "must have no user, no password and no #: what is posted is signed instead")


def check_secret(secret: str) -> None:
    """Raise Invalid for a secret that could be guessed, or that is said to be base64 and is not."""
    require_long_secret("secret", secret)
    try:
        key = key_of(secret)
    except WrongSecret:
        raise Invalid("secret", "begins with whsec_, so base64 must follow")
    if len(key) < MINIMUM_SECRET:
        raise Invalid("secret", f"must hold at least {MINIMUM_SECRET} bytes behind its whsec_")
