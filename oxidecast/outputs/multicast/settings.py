"""[multicast]: where groups begin, how they travel, and what is in them."""

import math
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from oxidecast.delivery.constant_rate import BURST, MIN_RATE
from oxidecast.delivery.pacing import CLOCK_INTERVAL
from oxidecast.formats import sap
from oxidecast.formats.fec import ROW_PORT, Matrix
from oxidecast.formats.mpegts import PACKET_SIZE
from oxidecast.media import LocalProtocolError
from oxidecast.settings.section import Invalid, Port, Section, Size

_SMALLEST, _LARGEST = PACKET_SIZE, 9212
"""Bytes of a datagram: one transport packet; and what jumbo frames hold."""
_MOST_INTERFACES = 8
_LAST_PORT = 65_535
_MOST_RENDITIONS = 50
"""More than any ladder has: what an owner chooses is kept in the database."""

Rate = Annotated[int, Meta(ge=int(MIN_RATE), le=1_000_000_000)]
"""Bits a second of transport stream."""


class MulticastSettings(Section, frozen=True, kw_only=True):
    """[multicast]"""

    interface: str | None = None
    base_address: str = "239.255.0.1"
    port_range: tuple[Port, Port] = (30_000, 30_999)
    ttl: Annotated[int, Meta(ge=0, le=255)] = 1
    loopback: bool = True
    dscp: Annotated[int, Meta(ge=0, le=63)] = 34
    buffer_size: Size = 1_048_576
    packet_size: Annotated[int, Meta(ge=_SMALLEST, le=_LARGEST)] = 1316
    encapsulation: Literal["udp", "rtp"] = "udp"
    fec: str = ""
    cbr: bool = False
    rate: Rate = 8_000_000
    rates: dict[str, Rate] = {}
    burst: Annotated[int, Meta(ge=1, le=49)] = BURST
    opus: bool = False
    sap: bool = False

    def __post_init__(self) -> None:
        _check_base(self.base_address)
        first, last = self.port_range
        if not 0 < first <= last:
            raise Invalid("port_range", "must be the first port and the last")
        try:
            if self.fec and self.encapsulation != "rtp":
                raise Invalid("fec", 'needs encapsulation = "rtp": plain UDP has no numbers that show a loss')
            if self.fec:
                Matrix.parse(self.fec)
        except LocalProtocolError as error:
            raise Invalid("fec", f"is not possible: {error}")
        if len(self.interfaces) > _MOST_INTERFACES:
            raise Invalid("interface", f"must name at most {_MOST_INTERFACES} interfaces")
        if len(set(self.interfaces)) < len(self.interfaces):
            raise Invalid("interface", "must not name an interface twice")
        self._check_versions()
        if Addresses(self).room < 1:
            raise Invalid("port_range", "leaves no room for the ports that RTP and FEC have beside the first")
        self._check_rates()

    def _check_versions(self) -> None:
        wanted = ip_address(self.base_address).version
        for interface in self.interfaces:
            try:
                version = ip_address(interface).version
            except ValueError:
                continue  # a name
            if version != wanted:
                raise Invalid(
                    "interface",
                    f"names an IPv{version} address, and base_address is IPv{wanted}: name the interface",
                )

    def _check_rates(self) -> None:
        least = math.ceil(self.datagram * 8 / CLOCK_INTERVAL)
        for key, rate in (
            ("rate", self.rate),
            *((f"rates.{name}", rate) for name, rate in self.rates.items()),
        ):
            if rate < least:
                raise Invalid(
                    key,
                    f"must be at least {least}, or datagrams of {self.datagram} bytes leave too seldom for a clock",
                )

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Names or addresses; one empty text for the system's choice."""
        named = [name.strip() for name in (self.interface or "").split(",")]
        return tuple(name for name in named if name) or ("",)

    @property
    def datagram(self) -> int:
        """Bytes of transport packets in a datagram: whole packets, as many as `packet_size` has room for."""
        return self.packet_size // PACKET_SIZE * PACKET_SIZE

    @property
    def matrix(self) -> Matrix | None:
        """The FEC, if there is any."""
        return Matrix.parse(self.fec) if self.fec else None

    def constant_rate(self, rendition: str) -> int | None:
        """Bits a second of that rendition's group; None where the rate follows the pictures."""
        return self.rates.get(rendition, self.rate if self.cbr else None)


class MulticastChoices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of a stream chooses."""

    enabled: bool | None = None
    """None: a public stream is sent, a private one is not."""
    open_to_everybody: bool = False
    """The owner of a private stream knows that nothing on the wire keeps anybody from watching it."""
    renditions: Annotated[
        dict[Annotated[str, Meta(max_length=64)], bool], Meta(max_length=_MOST_RENDITIONS)
    ] = {}
    """By a rendition's name; those that are not named follow `enabled`."""

    def wants(self, rendition: str, is_private: bool) -> bool:
        """Whether this rendition is sent."""
        if is_private and not (self.enabled and self.open_to_everybody):
            return False
        return self.enabled is not False and self.renditions.get(rendition, True)


def _check_base(text: str) -> None:
    try:
        address = ip_address(text)
    except ValueError:
        raise Invalid("base_address", 'must be a multicast address such as "239.255.0.1"')
    if not address.is_multicast or "%" in text:
        raise Invalid("base_address", 'must be a multicast address such as "239.255.0.1"')
    if isinstance(address, IPv4Address) and address.packed[:3] == b"\xe0\0\0":
        raise Invalid("base_address", "must not lie in 224.0.0.0/24, which belongs to routing protocols")


class Addresses:
    """The groups that the settings give away: number n has the base address + n and the first port + n.

    `room` is how many there are: the smaller of the two ranges, up to the end of the multicast addresses.
    """

    def __init__(self, settings: MulticastSettings) -> None:
        self._base: IPv4Address | IPv6Address = ip_address(settings.base_address)
        self._port = settings.port_range[0]
        last = 0xEFFFFFFF if self._base.version == 4 else (1 << 128) - 1
        beside = (ROW_PORT if settings.fec else 1) if settings.encapsulation == "rtp" else 0
        self.room = min(
            min(settings.port_range[1], _LAST_PORT - beside) - self._port + 1, last - int(self._base) + 1
        )

    def of(self, number: int) -> tuple[str, int]:
        """Group and port. Raises IndexError beyond `room`."""
        if not 0 <= number < self.room:
            raise IndexError(f"there are {self.room} groups")
        return str(self._base + number), self._port + number

    def usable(self, number: int) -> bool:
        """Whether nothing else lives there: announcements have addresses of their own."""
        return self.of(number)[0] not in (sap.GLOBAL, sap.LOCAL, sap.ORGANISATION)


def is_source_specific(group: str) -> bool:
    """Whether receivers must join by the sender's address: 232/8 and ff3x::/32 (RFC 4607, 1)."""
    address = ip_address(group)
    if isinstance(address, IPv4Address):
        return address.packed[0] == 232
    return address.packed[0] == 0xFF and address.packed[1] >> 4 == 3 and address.packed[2:4] == b"\0\0"
