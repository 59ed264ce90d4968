"""A WebRTC client that is none of ours and no browser: aiortc. It is run as a program of its own.

    python aiortc_peer.py watch ADDRESS SECONDS [--only-cm]
    python aiortc_peer.py publish ADDRESS SECONDS --key KEY --codec H264 [--only-cm]

It prints one line of JSON: what came, or what was asked of it.
"""

import argparse
import asyncio
import json
import sys
import time
from typing import Any
from urllib.request import Request, urlopen

import aioice.ice
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
    rtcdtlstransport,
)
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [
    "127.0.0.1"
]  # It has no other way to take loopback.


class Count:
    """What came of one medium."""

    def __init__(self) -> None:
        self.frames = 0
        self.first: float | None = None
        self.last = 0.0
        self.shape: list[int] = []
        self.loudest = 0

    async def take(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                self.frames += 1
                self.first = frame.time if self.first is None else self.first
                self.last = frame.time
                if track.kind == "video":
                    self.shape = [frame.width, frame.height]
                else:
                    self.shape = [frame.sample_rate, len(frame.layout.channels)]
                    samples = memoryview(bytes(frame.planes[0])[: 2 * 2 * frame.samples]).cast("h")
                    self.loudest = max(self.loudest, *samples)
        except MediaStreamError:
            return

    def told(self) -> dict[str, Any]:
        spanned = self.last - (self.first or 0.0)
        return {"frames": self.frames, "shape": self.shape, "loudest": self.loudest, "seconds": spanned}


def ask(method: str, address: str, body: str = "", key: str = "") -> tuple[str, str]:
    """The answer's body, and its Location."""
    request = Request(address, method=method, data=body.encode() or None)
    request.add_header("Content-Type", "application/sdp")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers.get("Location", "")


def codecs(kind: str, name: str) -> list[Any]:
    found = RTCRtpReceiver.getCapabilities(kind).codecs
    return [one for one in found if one.mimeType.lower() in (f"{kind}/{name}".lower(), f"{kind}/rtx")]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    bundle = RTCBundlePolicy(options.bundle)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=bundle))
    counts = {"video": Count(), "audio": Count()}
    tasks: list[asyncio.Task[None]] = []
    if options.what == "watch":
        for kind in counts:
            transceiver = connection.addTransceiver(kind, direction="recvonly")
            if kind == "video":
                transceiver.setCodecPreferences(codecs(kind, options.codec))
        connection.on(
            "track", lambda track: tasks.append(asyncio.create_task(counts[track.kind].take(track)))
        )
    else:
        picture = MediaPlayer("testsrc2=size=320x240:rate=30", format="lavfi").video
        tone = MediaPlayer("sine=frequency=440:sample_rate=48000", format="lavfi").audio
        for track in (picture, tone):
            assert track is not None
            transceiver = connection.addTransceiver(track, direction="sendonly")
            if track.kind == "video":
                transceiver.setCodecPreferences(codecs("video", options.codec))
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription.sdp
    answer, location = await asyncio.to_thread(ask, "POST", options.address, offer, options.key)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    deadline = time.monotonic() + 10
    while connection.connectionState != "connected":
        if time.monotonic() > deadline:
            raise TimeoutError(f"ICE is {connection.iceConnectionState}, all is {connection.connectionState}")
        await asyncio.sleep(0.05)
    await asyncio.sleep(options.seconds)
    transport = connection.getTransceivers()[0].receiver.transport
    result: dict[str, Any] = {
        "profile": transport._ssl.get_selected_srtp_profile().decode(),
        **{kind: count.told() for kind, count in counts.items()},
    }
    for report in (await connection.getStats()).values():
        if report.type in ("inbound-rtp", "remote-inbound-rtp"):
            result[f"{report.kind}_lost"] = report.packetsLost
    origin = options.address.split("/api/")[0]
    await asyncio.to_thread(ask, "DELETE", origin + location)
    await connection.close()
    await asyncio.gather(*tasks)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("watch", "publish"))
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--key", default="")
    parser.add_argument("--codec", default="H264")
    parser.add_argument("--bundle", default="max-bundle")
    parser.add_argument("--only-cm", action="store_true")
    options = parser.parse_args()
    if options.only_cm:
        rtcdtlstransport.SRTP_PROFILES[:] = [rtcdtlstransport.SRTP_AES128_CM_SHA1_80]
    print(json.dumps(asyncio.run(run(options))))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
