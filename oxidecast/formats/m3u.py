"""Channel lists for players: the extended M3U that VLC, Kodi and set-top boxes read.

There is no standard: `#EXTINF:-1 key="value" …,Name` and a URL below it are what they all understand. There are
no escapes either, so a value loses its quotes, and its commas too, because some readers take the first comma of
the line for the end of the attributes. A name loses its commas as well: VLC takes what
stands before one for the artist.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from oxidecast.formats.lines import one_line
from oxidecast.media import LocalProtocolError

CONTENT_TYPE = "audio/x-mpegurl"
_LONGEST_TEXT = 200
"""Bytes of a name: more than a list on a television shows."""
_NO_DELIMITERS = str.maketrans('",', "' ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One multicast group in the list."""

    id: str
    """The same for ever: what players key favourites and programme guides by."""
    name: str
    group: str
    """The multicast group's address."""
    port: int
    category: str = ""
    rtp: bool = False
    """RTP, and not plain UDP."""
    source: str = ""
    """The sender's address, where receivers must join by it (source-specific multicast)."""

    @property
    def uri(self) -> str:
        """The address that players open: `udp://@239.255.0.1:30000`."""
        try:
            group = _host(self.group)
            source = _host(self.source) if self.source else ""
        except ValueError as error:
            raise LocalProtocolError(f"a channel needs addresses: {error}")
        if not 0 < self.port < 0x10000:
            raise LocalProtocolError(f"a channel's port cannot be {self.port}")
        return f"{'rtp' if self.rtp else 'udp'}://{source}@{group}:{self.port}"


def channel_list(channels: Iterable[Channel]) -> str:
    """The list; its order is that of the channels."""
    lines = ["#EXTM3U"]
    for channel in channels:
        name = one_line(channel.name.replace(",", ""), _LONGEST_TEXT) or "-"
        attributes = f'tvg-id="{_value(channel.id)}" tvg-name="{_value(name)}"'
        category = _value(channel.category)
        if category:
            attributes += f' group-title="{category}"'
        lines += [f"#EXTINF:-1 {attributes},{name}", channel.uri]
    return "\n".join([*lines, ""])


def _value(text: str) -> str:
    return one_line(text.translate(_NO_DELIMITERS), _LONGEST_TEXT)


def _host(address: str) -> str:
    parsed = ipaddress.ip_address(address.partition("%")[0])  # a zone means nothing on another machine
    return str(parsed) if parsed.version == 4 else f"[{parsed}]"
