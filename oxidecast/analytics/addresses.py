"""How much of a viewer's address is kept, and shown.

An address is personal data. By default only its network is written, which tells where viewers come from and no longer
who they are.
"""

from ipaddress import ip_interface, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from oxidecast.analytics.settings import Addresses

IPV4_PREFIX, IPV6_PREFIX = 24, 48
"""What is left of an address: what web statistics usually keep, the smallest networks that are announced on the
internet. They hold hundreds of households."""


_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins as an IPv6 one (RFC 4291, 2.5.5.2)."""


def kept(address: str, how: Addresses) -> str | None:
    """What is written of an address, in the spelling of PostgreSQL's inet; None of what is none. It is asked for every
    viewer, and so goes without `ipaddress`, which takes ten times as long."""
    packed = _packed(address.partition("%")[0]) if how != "none" else None
    if packed is None:
        return None
    family, prefix = (AF_INET, IPV4_PREFIX) if len(packed) == 4 else (AF_INET6, IPV6_PREFIX)
    if how == "full":
        return inet_ntop(family, packed)
    return f"{inet_ntop(family, packed[: prefix // 8].ljust(len(packed), bytes(1)))}/{prefix}"


def _packed(text: str) -> bytes | None:
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def network(address: str | None) -> str | None:
    """The same of what was written in full before."""
    try:
        parsed = ip_interface(address or "")
    except ValueError:
        return None
    prefix = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX
    return str(ip_network((parsed.ip, min(prefix, parsed.network.prefixlen)), strict=False))
