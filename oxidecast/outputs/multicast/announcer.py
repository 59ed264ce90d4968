"""Says on the network which groups there are (SAP, RFC 2974), so that players list the streams by name.

The one idea: what is announced is made anew each time from what the group is now, and sent through each interface with
that interface's own address; a changed description is a new announcement, and the old one is taken back.
"""

import random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oxidecast.delivery.udp import MulticastSocket, SendOptions
from oxidecast.formats.sap import GLOBAL, PORT, SHORTEST_INTERVAL, Announcement, address, delay, interval
from oxidecast.formats.sdp import Session, session_id
from oxidecast.interfaces import IStream
from oxidecast.outputs.multicast.group import Group
from oxidecast.outputs.multicast.settings import MulticastSettings, is_source_specific

SHORTEST_LOCAL = 10.0
"""Seconds between two announcements of a group within a site. RFC 2974's five minutes are for the whole internet, and
nobody waits so long for a channel list; the bandwidth that all share bounds it as well."""


class _Announced:
    """One group."""

    __slots__ = ("call", "group", "last", "stream")

    def __init__(self, group: Group, stream: IStream) -> None:
        self.group = group
        self.stream = stream
        self.call: IDelayedCall | None = None
        self.last: dict[int, tuple[Session, Announcement]] = {}
        """What was said last, by the number of the interface."""


class Announcer:
    """Announces what it is given, where `[multicast] sap` is set."""

    def __init__(self, settings: MulticastSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._announced: dict[int, _Announced] = {}
        """By the group's number."""
        self._sockets: dict[str, list[MulticastSocket]] = {}
        """By the address that is announced to, one for each interface."""

    def put(self, group: Group, stream: IStream) -> None:
        """Announce the group from now on, or anew because something about it has changed."""
        if not self._settings.sap:
            return
        known = self._announced.get(group.number)
        if known is None or known.group is not group:
            self.remove(group)
            known = self._announced[group.number] = _Announced(group, stream)
        elif all(self._session(known, n) == session for n, (session, _) in known.last.items()) and known.last:
            return
        self._cancel(known)
        # At once, but after what calls: a group that has just been opened has no packets yet.
        known.call = self._reactor.callLater(0, self._announce, known)

    def remove(self, group: Group) -> None:
        """Take the announcement back. Does nothing for a group that is not announced."""
        known = self._announced.pop(group.number, None)
        if known is not None:
            self._cancel(known)
            for number in list(known.last):
                self._take_back(known, number)

    def close(self) -> None:
        """Take everything back."""
        for known in list(self._announced.values()):
            self.remove(known.group)
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        self._sockets.clear()

    def _announce(self, known: _Announced) -> None:
        size = 0
        for number, sock in enumerate(self._sockets_to(address(known.group.group))):
            session = self._session(known, number)
            if session is None:
                continue
            said = known.last.get(number)
            if said is None or said[0] != session:
                if said is not None:
                    self._take_back(known, number)
                taken = {
                    other.last[number][1].hash for other in self._announced.values() if number in other.last
                }
                said = known.last[number] = (session, Announcement(session, taken))
            size = len(said[1].announce)
            sock.send(said[1].announce, size)
        shortest = SHORTEST_INTERVAL if address(known.group.group) == GLOBAL else SHORTEST_LOCAL
        every = interval(len(self._announced), size, shortest=shortest)
        known.call = self._reactor.callLater(delay(every, random.random()), self._announce, known)

    def _take_back(self, known: _Announced, number: int) -> None:
        _, announcement = known.last.pop(number)
        sock = self._sockets_to(address(known.group.group))[number]
        sock.send(announcement.delete, len(announcement.delete))

    def _session(self, known: _Announced, number: int) -> Session | None:
        """What is said of the group through an interface; None while that is away, or has no address."""
        group, info, settings = known.group, known.stream.info, self._settings
        origin = group.sink.sockets[number].source
        if origin in ("", "0.0.0.0", "::"):
            return None
        return Session(
            id=session_id(f"{known.stream.id}/{group.rendition}"),
            version=group.since,
            origin=origin.partition("%")[0],
            title=group.title,
            information=info.description,
            group=group.group,
            port=group.port,
            ttl=settings.ttl,
            rtp=settings.encapsulation == "rtp",
            source_specific=is_source_specific(group.group),
            fec=settings.matrix,
        )

    def _sockets_to(self, group: str) -> list[MulticastSocket]:
        if group not in self._sockets:
            options = SendOptions(ttl=self._settings.ttl, loopback=self._settings.loopback)
            self._sockets[group] = [
                MulticastSocket(group, PORT, interface, options, self._reactor.seconds)
                for interface in self._settings.interfaces
            ]
        return self._sockets[group]

    def _cancel(self, known: _Announced) -> None:
        if known.call is not None and known.call.active():
            known.call.cancel()
        known.call = None
