"""[webrtc]: the one UDP port, where it can be reached, and who helps peers to find a way."""

import ipaddress
from typing import Annotated, ClassVar

from msgspec import Meta

from oxidecast.settings.section import Count, Invalid, Port, Section


class TurnServer(Section, frozen=True, kw_only=True):
    """One [[webrtc.turn_servers]]."""

    secrets: ClassVar[frozenset[str]] = frozenset({"credential"})

    url: Annotated[str, Meta(pattern=r"^turns?:[!-;=?-~]+$")]
    username: str = ""
    credential: str = ""


class WebrtcSettings(Section, frozen=True, kw_only=True):
    """[webrtc]"""

    reloadable: ClassVar[frozenset[str]] = frozenset(
        {"addresses", "stun_servers", "turn_servers", "max_sessions", "max_sessions_per_address"}
    )

    host: str = ""
    port: Port = 8189
    addresses: tuple[str, ...] = ()
    stun_servers: tuple[Annotated[str, Meta(pattern=r"^stuns?:[!-;=?-~]+$")], ...] = ()
    turn_servers: tuple[TurnServer, ...] = ()
    max_sessions: Count = 500
    max_sessions_per_address: Count = 100

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not _is_address(address):
                raise Invalid("addresses", 'must hold IP addresses such as "203.0.113.7"')
        if self.host and not _is_address(self.host):
            raise Invalid("host", "must be an IP address of this machine, or empty for all of them")


def _is_address(text: str) -> bool:
    try:
        return "%" not in str(ipaddress.ip_address(text))
    except ValueError:
        return False
