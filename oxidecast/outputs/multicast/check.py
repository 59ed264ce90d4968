"""What `oxidecast check` says of multicast: the interface, the route, and the size of send buffers."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from oxidecast.delivery.udp import MulticastSocket, SendOptions
from oxidecast.outputs.multicast.settings import Addresses, MulticastSettings

_WMEM_MAX = Path("/proc/sys/net/core/wmem_max")


def check(settings: MulticastSettings) -> Iterator[tuple[str, str]]:
    """One line for each interface, and one for what the kernel grants."""
    addresses = Addresses(settings)
    group, port = addresses.of(0)
    for interface in settings.interfaces:
        sock = MulticastSocket(group, port, interface, SendOptions(), lambda: 0.0)
        source = sock.source
        sock.close()
        if source:
            last, last_port = addresses.of(addresses.room - 1)
            yield (
                "ok",
                f"multicast: {group}:{port} to {last}:{last_port} leaves by {source}"
                + (f" ({interface})" if interface not in ("", source) else ""),
            )
        elif interface:
            known = ", ".join(name for _, name in socket.if_nameindex())
            yield (
                "fail",
                f"multicast: nothing leaves by {interface}; set multicast.interface to one of {known}",
            )
        else:
            yield "warn", f"multicast: there is no route to {group}; {_remedy(group)}"
    granted = _granted()
    if granted is not None and granted < settings.buffer_size:
        yield (
            "warn",
            f"multicast: the system grants send buffers of {granted} bytes, fewer than multicast.buffer_size; run: "
            f"sysctl -w net.core.wmem_max={settings.buffer_size}",
        )


def _remedy(group: str) -> str:
    network = "239.0.0.0/8" if group.startswith("239.") else "224.0.0.0/4"
    command = f"ip route add {network} dev INTERFACE"
    if ip_address(group).version == 6:
        command = "ip -6 route add ff00::/8 dev INTERFACE table local"
    return f"run: {command}; or set multicast.interface"


def _granted() -> int | None:
    try:
        return int(_WMEM_MAX.read_text())
    except (OSError, ValueError):
        return None
