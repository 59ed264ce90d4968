// WebRTC as the engine: a moment behind the encoder, with no buffer to speak of and no way back in time.

import { serverNow } from "../api";
import type { Engine, EngineListener, Level } from "../engine";

/** Without a picture or a sound after this, it will not work here: UDP may be blocked. */
const PATIENCE = 6_000;
/** Without anything new for this, the publisher may be away. */
const SILENT = 2_000;
/** Milliseconds from 1900, where RTCP counts from, to 1970. */
const NTP = 2_208_988_800_000;

export class WhepEngine implements Engine {
  static supported(): boolean {
    return "RTCPeerConnection" in window;
  }

  readonly levels: Level[] = [];
  readonly current = -1;
  chosen = -1;
  /** Whether anything came, ever: if not, the same stream may play another way. */
  played = false;
  private readonly peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  private readonly media = new MediaStream();
  private readonly timer: number;
  private readonly began = performance.now();
  private session: string | null = null;
  private over = false;
  private delay: number | null = null;
  private received = 0;
  private lastNews = performance.now();

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly listener: EngineListener,
  ) {
    for (const kind of ["video", "audio"]) this.peer.addTransceiver(kind, { direction: "recvonly" });
    this.peer.addEventListener("track", ({ track }) => this.media.addTrack(track));
    this.peer.addEventListener("connectionstatechange", () => {
      if (["failed", "closed"].includes(this.peer.connectionState)) this.fail("the connection ended");
    });
    window.addEventListener("pagehide", this.leave);
    this.timer = window.setInterval(() => void this.look(), 500);
  }

  load(address: string): void {
    this.video.srcObject = this.media;
    this.listener.levelsKnown();
    this.offer(address).catch((error: unknown) => this.fail(String(error)));
  }

  destroy(): void {
    this.over = true;
    clearInterval(this.timer);
    window.removeEventListener("pagehide", this.leave);
    this.peer.close();
    this.video.srcObject = null;
    this.leave();
  }

  latency(): number | null {
    return this.delay;
  }

  behind(): number {
    return 0;
  }

  toLive(): void {
    // There is nowhere else to be.
  }

  get silent(): boolean {
    return performance.now() - this.lastNews > SILENT;
  }

  private async offer(address: string): Promise<void> {
    await this.peer.setLocalDescription();
    const answer = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: this.peer.localDescription?.sdp ?? "",
      credentials: "same-origin",
    });
    if (answer.status !== 201) throw new Error(`WebRTC was refused (${answer.status})`);
    this.session = answer.headers.get("Location");
    if (this.over) this.leave();
    else await this.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  }

  /** A session that nobody watches need not wait until the server notices. */
  private leave = (): void => {
    const session = this.session;
    this.session = null;
    if (session !== null) void fetch(session, { method: "DELETE", keepalive: true }).catch(() => undefined);
  };

  private async look(): Promise<void> {
    let bytes = 0;
    for (const report of ((await this.peer.getStats()) as Map<string, RTCInboundRtpStreamStats>).values()) {
      if (report.type !== "inbound-rtp") continue;
      bytes += report.bytesReceived ?? 0;
      const shown = (report as { estimatedPlayoutTimestamp?: number }).estimatedPlayoutTimestamp;
      if (report.kind === "video" && shown) this.delay = Math.max(0, (serverNow() - (shown - NTP)) / 1000);
    }
    if (this.over) return;
    if (bytes > this.received) {
      this.received = bytes;
      this.played = true;
      this.lastNews = performance.now();
    } else if (!this.played && performance.now() - this.began > PATIENCE) this.fail("nothing came by WebRTC");
  }

  private fail(detail: string): void {
    if (this.over) return;
    this.over = true;
    this.listener.trouble("network", detail);
  }
}
