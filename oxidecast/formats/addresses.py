"""IP addresses and networks as settings and headers write them.

The one idea: one address has one form. An IPv4 address that came mapped into IPv6 is the IPv4 address, and a zone
(`fe80::1%eth0`) says nothing of who it is; so what is compared here is never missed for how it was written.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

LONGEST = 100
"""Characters of text that is looked at: an IPv6 address with a zone is shorter."""


def address(text: str) -> Address | None:
    """The address that `text` is; None when it is none."""
    try:
        parsed = ip_address(text[:LONGEST].partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


class Networks:
    """Some networks, such as `10.0.0.0/8` or `2001:db8::/32`; a single address is a network too."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError for what is no network."""
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, networks))

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, one: str | Address) -> bool:
        parsed = address(one) if isinstance(one, str) else one
        return parsed is not None and any(parsed in network for network in self._networks)
