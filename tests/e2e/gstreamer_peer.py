"""A WebRTC client that is none of ours and no browser: GStreamer's webrtcbin. It is run as a program of its own, by the
Python that Debian's GStreamer is for.

    /usr/bin/python3 gstreamer_peer.py watch ADDRESS SECONDS
    /usr/bin/python3 gstreamer_peer.py publish ADDRESS SECONDS --key KEY --codec H264

It prints one line of JSON: what came, or what was asked of it.
"""

import argparse
import json
import sys
import threading
import time
from urllib.request import Request, urlopen

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

CAPS = {
    "H264": "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,packetization-mode=(string)1",
    "VP8": "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000",
    "OPUS": "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
}
ENCODERS = {
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=800 ! "
    "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency",
    "VP8": "vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=800000 ! rtpvp8pay",
}
DECODERS = {
    "video": "rtph264depay ! avdec_h264 ! videoconvert ! video/x-raw",
    "audio": "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE",
}
SOURCES = """
    videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert
    ! {encoder} ! {video} ! peer.
    audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! opusenc ! rtpopuspay ! {audio} ! peer.
"""


class Peer:
    """One session."""

    def __init__(self, options):
        self.options = options
        self.loop = GLib.MainLoop()
        self.location = ""
        self.error = ""
        self.counts = {
            kind: {"frames": 0, "shape": [], "seconds": 0.0, "loudest": 0} for kind in ("video", "audio")
        }
        self.first = {}
        if options.what == "publish":
            caps = {"video": CAPS[options.codec], "audio": CAPS["OPUS"]}
            text = SOURCES.format(encoder=ENCODERS[options.codec], **caps)
            self.pipeline = Gst.parse_launch(f"webrtcbin name=peer {text}")
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline = Gst.Pipeline()
            self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
            self.pipeline.add(self.peer)
        Gst.util_set_object_arg(self.peer, "bundle-policy", "max-bundle")
        self.peer.connect("on-negotiation-needed", self.offer)
        self.peer.connect("pad-added", self.arrived)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.failed)
        direction = GstWebRTC.WebRTCRTPTransceiverDirection
        if options.what == "watch":
            for caps in (CAPS[options.codec], CAPS["OPUS"]):
                self.peer.emit("add-transceiver", direction.RECVONLY, Gst.Caps.from_string(caps))
        else:
            for number in range(2):
                transceiver = self.peer.emit("get-transceiver", number)
                transceiver.set_property("direction", direction.SENDONLY)

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add(15_000, self.late)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        if self.error:
            raise SystemExit(self.error)
        print(json.dumps(self.counts))
        sys.stdout.flush()

    # -- signalling

    def offer(self, *_):
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered))

    def offered(self, promise):
        reply = promise.get_reply()  # What it holds goes with it.
        offer = reply.get_value("offer")
        self.peer.emit("set-local-description", offer, Gst.Promise.new())
        threading.Thread(target=self.post, args=(offer.sdp.as_text(),), daemon=True).start()

    def post(self, text):
        try:
            answer, self.location = ask("POST", self.options.address, text, self.options.key)
        except OSError as error:
            self.stop(f"{error}: {error.read().decode() if hasattr(error, 'read') else ''}\n{text}")
            return
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", described, Gst.Promise.new())
        GLib.timeout_add(50, self.connected)

    def connected(self):
        state = self.peer.get_property("connection-state")
        if state != GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
            return True
        GLib.timeout_add(int(self.options.seconds * 1000), self.over)
        return False

    def over(self):
        ask("DELETE", self.options.address.split("/api/")[0] + self.location)
        self.loop.quit()

    def late(self):
        if not self.location or self.peer.get_property("connection-state") != (
            GstWebRTC.WebRTCPeerConnectionState.CONNECTED
        ):
            self.stop(f"not connected: {self.peer.get_property('ice-connection-state')}")

    def failed(self, bus, message):
        self.stop(str(message.parse_error()))

    def stop(self, error):
        self.error = error
        self.loop.quit()

    # -- media

    def arrived(self, element, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        text = f"{DECODERS[kind]} ! appsink name=end emit-signals=true sync=false"
        end = Gst.parse_bin_from_description(text, True)
        end.get_by_name("end").connect("new-sample", self.sample, kind)
        self.pipeline.add(end)
        end.sync_state_with_parent()
        pad.link(end.get_static_pad("sink"))

    def sample(self, sink, kind):
        sample = sink.emit("pull-sample")
        shape, count = sample.get_caps().get_structure(0), self.counts[kind]
        now = time.monotonic()
        count["frames"] += 1
        count["seconds"] = now - self.first.setdefault(kind, now)
        if kind == "video":
            count["shape"] = [shape.get_value("width"), shape.get_value("height")]
        else:
            count["shape"] = [shape.get_value("rate"), shape.get_value("channels")]
            buffer = sample.get_buffer()
            data = buffer.extract_dup(0, buffer.get_size())
            count["loudest"] = max(count["loudest"], *memoryview(data).cast("h"))
        return Gst.FlowReturn.OK


def ask(method, address, body="", key=""):
    """The answer's body, and its Location."""
    request = Request(address, method=method, data=body.encode() or None)
    request.add_header("Content-Type", "application/sdp")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers.get("Location", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("watch", "publish"))
    parser.add_argument("address")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--key", default="")
    parser.add_argument("--codec", default="H264")
    options = parser.parse_args()
    Gst.init(None)
    Peer(options).run()


if __name__ == "__main__":
    main()
