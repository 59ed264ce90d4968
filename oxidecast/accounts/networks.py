"""Networks that a stream key may be used from.

The one idea: what is stored is the network as `ipaddress` spells it, so that comparing later cannot fail. An IPv4
address is the same whether a socket writes it plainly or inside IPv6 (RFC 4291, 2.5.5.2).
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

MAPPED = IPv6Network("::ffff:0:0/96")


def parse_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """The networks, without repetitions, in the order given. A single address is a network of one. Raises ValueError
    with what is wrong."""
    return tuple(dict.fromkeys(str(_network(text)) for text in texts))


def is_within(address: str | None, networks: Sequence[str]) -> bool:
    """Whether an address is in one of the networks; one that is not known is in none."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    plain: IPv4Address | IPv6Address = parsed
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        plain = parsed.ipv4_mapped
    return any(plain in ip_network(network) for network in networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    if "%" in text:
        raise ValueError(f"{text!r} names an interface, which means nothing to a server")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no address and no network such as 203.0.113.0/24") from None
    if "/" in text and network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} is an address within a network: the network is {network}")
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        inside = int(network.network_address) & 0xFFFF_FFFF
        return IPv4Network((inside, network.prefixlen - MAPPED.prefixlen))
    return network
