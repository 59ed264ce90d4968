"""A multicast stream and its announcements in a network of their own, and a program that receives them there.

    python -m tests.e2e.announced TS-FILE SDP-FILE udp|rtp PROGRAM ARGUMENT...

Runs inside `unshare --net`, whose only interface is the loopback, and ends as PROGRAM ends, or ends it on SIGTERM.
"""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from oxidecast.formats.rtp import TS_DATAGRAM, TSWrapper
from oxidecast.formats.sap import PORT, Announcement
from oxidecast.formats.sdp import Session, session_id

HOST = "127.0.0.1"
TITLE = "Abendschau – “Höhe 720p”\r\nm=audio 9 udp 0"
"""It tries to leave its line."""
RATE = 250_000
"""Bytes a second."""


def main(ts: str, sdp: str, encapsulation: str, *command: str) -> int:
    for line in ["link set lo up multicast on", "route add 224.0.0.0/4 dev lo"]:
        subprocess.run(["ip", *line.split()], check=True)
    session = Session(
        id=session_id("evening"), version=1, origin=HOST, title=TITLE, group="239.255.7.1", port=30001,
        rtp=encapsulation == "rtp",
    )  # fmt: skip
    Path(sdp).write_bytes(bytes(session))
    announcement, wrapper = Announcement(session), TSWrapper(1)
    data = Path(ts).read_bytes()
    datagrams = [data[first : first + TS_DATAGRAM] for first in range(0, len(data), TS_DATAGRAM)]
    sent, announced = 0, 0.0
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    start = time.monotonic()
    with subprocess.Popen(command) as program, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HOST))
        while program.poll() is None:
            now = time.monotonic() - start
            if now >= announced:
                sender.sendto(announcement.announce, (announcement.address, PORT))
                announced = now + 0.5
            while sent * TS_DATAGRAM < now * RATE:
                packet = datagrams[sent % len(datagrams)]
                if session.rtp:
                    (packet,) = wrapper.wrap([packet], int(now * 90_000))
                sender.sendto(packet, (session.group, session.port))
                sent += 1
            time.sleep(0.01)
    return program.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
