// Safari's own player as the engine: it picks the quality, and it tells less.

import { serverNow } from "../api";
import type { Engine, EngineListener, Level } from "../engine";

/** Safari starts about three segments behind the edge; this is where "live" is when it does not say. */
const HOLD_BACK = 6;

export class NativeEngine implements Engine {
  readonly levels: Level[] = [];
  readonly current = -1;
  readonly silent = false;
  chosen = -1;

  constructor(
    private readonly video: HTMLVideoElement & { getStartDate?: () => Date },
    private readonly listener: EngineListener,
  ) {
    video.addEventListener("ended", this.ended);
    video.addEventListener("error", this.failed);
  }

  load(address: string): void {
    this.video.src = address;
    this.listener.levelsKnown();
  }

  destroy(): void {
    this.video.removeEventListener("ended", this.ended);
    this.video.removeEventListener("error", this.failed);
    this.video.removeAttribute("src");
    this.video.load();
  }

  latency(): number | null {
    const start = this.video.getStartDate?.().getTime() ?? NaN;
    if (Number.isNaN(start)) return null;
    return Math.max(0, (serverNow() - start) / 1000 - this.video.currentTime);
  }

  behind(): number {
    return Math.max(0, this.edge() - HOLD_BACK - this.video.currentTime);
  }

  toLive(): void {
    this.video.currentTime = Math.max(this.video.currentTime, this.edge() - HOLD_BACK);
  }

  private edge(): number {
    const { seekable } = this.video;
    return seekable.length > 0 ? seekable.end(seekable.length - 1) : 0;
  }

  private ended = (): void => this.listener.ended();

  private failed = (): void => {
    const error = this.video.error;
    // 2 is the network, 3 the decoder, 4 an address that gave nothing playable: for a live playlist, mostly a 404.
    this.listener.trouble(error?.code === MediaError.MEDIA_ERR_DECODE ? "media" : "network", error?.message ?? "");
  };
}
