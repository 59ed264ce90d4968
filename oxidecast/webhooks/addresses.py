"""Which addresses a post may go to.

The one idea: it is the address that is connected to that counts, never the name. A name is the owner's of its zone, and
can mean the machine's own services, its neighbours, or the metadata of the cloud that it runs in, at any moment.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052, 2.1: the last 32 bits are an IPv4 address."""
_TRANSLATED = ip_network("::ffff:0:0:0/96")
"""RFC 2765, 2.1: the same, of translators."""
_COMPATIBLE = ip_network("::/96")
"""RFC 4291, 2.5.5.1: the same, long deprecated."""
_LOCAL = (
    ip_network("64:ff9b:1::/48"),  # RFC 8215: NAT64 with an operator's own prefix
    ip_network("fec0::/10"),  # RFC 3879: site-local, deprecated, and still routed by some
)

_METADATA = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})
"""Where clouds keep metadata outside of the link-local networks."""


def refusal(text: str, allow_private: bool) -> str | None:
    """Why this address must not be connected to, in words; None when it may.

    `allow_private` opens loopback and private networks. Link-local addresses, where clouds keep their metadata, and
    what is no single host's address stay closed.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return "is no IP address"
    address = _inner(address)
    if address.is_unspecified:
        return "is no host's address"
    if address.is_multicast:
        return "is a multicast address"
    if address.is_link_local or address in _METADATA:
        return "is a link-local address, or a cloud's metadata"
    if address.is_loopback:
        return None if allow_private else "is this machine"
    if isinstance(address, IPv4Address) and address.is_reserved:
        return "is a reserved address"
    if not address.is_global or any(address in network for network in _LOCAL):
        return None if allow_private else "is a private address"
    return None


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where the network would take it so."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
