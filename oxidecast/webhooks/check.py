"""What `oxidecast check` says of webhooks: whether each address may and can be reached, and whether it is safe.

Addresses are named by the settings that hold them, because what they hold may be secret.
"""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from oxidecast.webhooks.addresses import refusal
from oxidecast.webhooks.settings import WebhooksSettings


def check(settings: WebhooksSettings) -> Iterator[tuple[str, str]]:
    """One line for each address, and one more where it is not encrypted."""
    for endpoint in settings.endpoints:
        yield from _look(f"webhook {endpoint.name}", endpoint.url, endpoint.allow_private)
    if settings.on_publish.url:
        yield from _look("webhooks.on_publish", settings.on_publish.url, settings.on_publish.allow_private)
    if settings.on_play.url:
        yield from _look("webhooks.on_play", settings.on_play.url, settings.on_play.allow_private)


def _look(name: str, url: str, allow_private: bool) -> Iterator[tuple[str, str]]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        yield "warn", f"{name}: {host} does not resolve; correct its url, or the name service"
        return
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    open_ = [address for address in addresses if refusal(address, allow_private) is None]
    if not open_:
        reason = refusal(addresses[0], allow_private)
        could = refusal(addresses[0], True) is None
        remedy = "set allow_private = true if that is meant" if could else "name another host"
        yield "fail", f"{name}: {host} is {addresses[0]}, which {reason}; {remedy}"
        return
    yield "ok", f"{name}: {host} is {open_[0]}"
    if parts.scheme == "http" and any(refusal(address, False) is None for address in open_):
        yield "warn", f"{name}: what is posted to {host} can be read on its way; use https"
