"""How much of a viewer's address is kept, and shown.

An address is personal data. By default only its network is written, which tells where viewers come from and no longer
who they are.
"""

from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network

from oxidecast.analytics.settings import Addresses

IPV4_PREFIX, IPV6_PREFIX = 24, 48
"""What is left of an address: what web statistics usually keep, the smallest networks that are announced on the
internet. They hold hundreds of households."""


def kept(address: str, how: Addresses) -> str | None:
    """What is written of an address, in the spelling of PostgreSQL's inet; None of what is none."""
    parsed = _parsed(address)
    if parsed is None or how == "none":
        return None
    return str(parsed.ip) if how == "full" else _network(parsed)


def network(address: str | None) -> str | None:
    """The same of what was written in full before."""
    parsed = _parsed(address or "")
    return _network(parsed) if parsed is not None else None


def _parsed(address: str) -> IPv4Interface | IPv6Interface | None:
    try:
        parsed = ip_interface(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ip.ipv4_mapped if isinstance(parsed, IPv6Interface) else None
    return parsed if mapped is None else IPv4Interface(mapped)


def _network(parsed: IPv4Interface | IPv6Interface) -> str:
    prefix = IPV4_PREFIX if isinstance(parsed, IPv4Interface) else IPV6_PREFIX
    return str(ip_network((parsed.ip, min(prefix, parsed.network.prefixlen)), strict=False))
