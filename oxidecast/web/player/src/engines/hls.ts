// hls.js as the engine: its own retries first, then ours on top of what it calls fatal.

import Hls, { ErrorTypes, Events, type ErrorData, type FragBufferedData } from "hls.js/light";
import { serverNow } from "../api";
import type { Engine, EngineListener, Level } from "../engine";

/** Media errors further apart than this have nothing to do with each other. */
const MEDIA_ERROR_MEMORY = 20_000;
/** How many segments behind the edge a stream with several qualities is played (RFC 8216, 6.3.3). */
const LADDER_SEGMENTS = 3;
/** A line that is so many times as fast, or as slow, as was believed is another line. */
const ANOTHER = 3;
/** How much of a faster one is believed at first. */
const BELIEVED = 0.7;
/** Of a segment's duration: who loads in less is in no hurry. */
const SLOW = 0.5;
/** Milliseconds: what was loaded in less is said to have taken so long. */
const LEAST_LOADING = 50;
const GENTLE_MEDIA_TRIES = 3;
const NETWORK_TRIES = 3;

export class HlsEngine implements Engine {
  static supported(): boolean {
    return Hls.isSupported();
  }

  levels: Level[] = [];
  private hls: Hls;
  private finished = false;
  private played = false;
  private networkTries = 0;
  private mediaErrors: number[] = [];
  private lastNews = performance.now();
  private lastSegment = -1;
  private lastRate = 0;
  private timer: number | undefined;
  private retryTimer: number | undefined;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly listener: EngineListener,
  ) {
    this.hls = new Hls({
      // fMP4 needs no transmuxing, and a worker would need a looser Content-Security-Policy.
      enableWorker: false,
      // Two segments behind the edge, and a second more after each stall.
      liveSyncDurationCount: 2,
      liveSyncOnStallIncrease: 1,
      startFragPrefetch: true,
      abrEwmaDefaultEstimate: 3_000_000,
      // A live buffer is short: a link that gets slower has to be believed within a second or two.
      abrEwmaFastLive: 1,
      capLevelToPlayerSize: true,
      backBufferLength: 30,
      maxBufferLength: 20,
      enableDateRangeMetadataCues: false,
      enableEmsgMetadataCues: false,
      enableID3MetadataCues: false,
    });
    this.hls.on(Events.MANIFEST_PARSED, () => this.begin());
    this.hls.on(Events.LEVELS_UPDATED, () => this.readLevels());
    this.hls.on(Events.LEVEL_SWITCHED, () => this.listener.levelsKnown());
    this.hls.on(Events.LEVEL_UPDATED, (_, { details }) => {
      if (details.endSN !== this.lastSegment) this.lastNews = performance.now();
      this.lastSegment = details.endSN;
      this.finished = !details.live;
      // A playlist that was over before anything was watched is yesterday's broadcast, not a live one.
      if (this.finished && !this.played) this.end();
    });
    this.hls.on(Events.FRAG_BUFFERED, (_, data) => {
      this.played = true;
      this.networkTries = 0;
      this.measure(data);
    });
    this.hls.on(Events.ERROR, (_, data) => this.failed(data));
    video.addEventListener("ended", this.end);
    this.timer = window.setInterval(() => this.watchEnd(), 500);
  }

  load(address: string): void {
    this.hls.attachMedia(this.video);
    this.hls.loadSource(address);
  }

  destroy(): void {
    clearInterval(this.timer);
    clearTimeout(this.retryTimer);
    this.video.removeEventListener("ended", this.end);
    this.hls.destroy();
  }

  get chosen(): number {
    return this.hls.autoLevelEnabled ? -1 : this.hls.manualLevel;
  }

  set chosen(id: number) {
    this.hls.nextLevel = id;
  }

  get current(): number {
    return this.hls.currentLevel;
  }

  latency(): number | null {
    const playing = this.hls.playingDate;
    if (playing !== null) return Math.max(0, (serverNow() - playing.getTime()) / 1000);
    return this.hls.latency > 0 ? this.hls.latency : null;
  }

  behind(): number {
    const edge = this.hls.liveSyncPosition;
    return edge === null || this.finished ? 0 : Math.max(0, edge - this.video.currentTime);
  }

  toLive(): void {
    const edge = this.hls.liveSyncPosition;
    if (edge !== null && edge > this.video.currentTime) this.video.currentTime = edge;
  }

  get silent(): boolean {
    const promised = this.hls.latestLevelDetails?.targetduration ?? 2;
    return performance.now() - this.lastNews > (promised * 2 + 1) * 1000;
  }

  private begin(): void {
    this.readLevels();
    // A link that collapses is noticed in the middle of a segment: there must be time for a smaller one after it.
    if (this.levels.length > 1) this.hls.config.liveSyncDurationCount = LADDER_SEGMENTS;
    const id = this.listener.preferred(this.levels);
    if (id < 0) return;
    // What is loaded first, and what after it.
    this.hls.startLevel = id;
    this.hls.nextLevel = id;
  }

  private readLevels(): void {
    this.levels = this.hls.levels
      .map((level, id) => ({
        id,
        width: level.width,
        height: level.height,
        bitrate: level.averageBitrate || level.bitrate,
        frameRate: level.frameRate,
      }))
      .sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
    this.listener.levelsKnown();
  }

  /**
   * hls.js weighs a segment by the time that it took: small ones on a fast line hardly count against what a slow one has
   * taught, and the picture stays small for half a minute; and what a fast one has taught over an hour outlives the first
   * slow segment, and stalls. So what was learned is forgotten when it is plainly wrong: by two segments in a row that
   * were faster, or by one that was slower.
   */
  private measure({ frag, stats }: FragBufferedData): void {
    if (frag.type !== "main" || frag.sn === "initSegment") return;
    const took = stats.loading.end - stats.loading.start;
    const rate = (stats.loaded * 8000) / Math.max(took, LEAST_LOADING);
    const twice = Math.min(rate, this.lastRate);
    const believed = this.hls.bandwidthEstimate;
    this.lastRate = rate;
    if (twice > ANOTHER * believed) this.hls.bandwidthEstimate = twice * BELIEVED;
    else if (took > SLOW * 1000 * frag.duration && rate * ANOTHER < believed) this.hls.bandwidthEstimate = rate;
  }

  private failed(data: ErrorData): void {
    if (!data.fatal) return;
    if (data.type === ErrorTypes.NETWORK_ERROR) this.retryNetwork(data);
    else if (data.details === "manifestIncompatibleCodecsError" || data.details === "bufferAddCodecError") {
      this.listener.trouble("codec", data.error.message);
    } else this.recoverMedia(data);
  }

  private retryNetwork(data: ErrorData): void {
    const status = data.response?.code ?? 0;
    this.networkTries += 1;
    // "Not found" and "not allowed" are answers: this session is over, and only the API knows what comes next.
    if ((status >= 400 && status < 500) || this.networkTries > NETWORK_TRIES || !this.played) {
      this.listener.trouble("network", `${data.details} ${status || ""}`.trim());
      return;
    }
    this.retryTimer = window.setTimeout(() => this.hls.startLoad(), 500 * 2 ** this.networkTries);
  }

  private recoverMedia(data: ErrorData): void {
    const now = performance.now();
    this.mediaErrors = this.mediaErrors.filter((then) => now - then < MEDIA_ERROR_MEMORY);
    this.mediaErrors.push(now);
    if (data.type === ErrorTypes.MEDIA_ERROR && this.mediaErrors.length <= GENTLE_MEDIA_TRIES) {
      this.hls.recoverMediaError();
      void this.video.play().catch(() => undefined);
    } else this.listener.trouble("media", data.details);
  }

  private watchEnd(): void {
    if (!this.finished || this.video.paused) return;
    // A last frame that falls short of the duration by a rounding would leave the element waiting for ever.
    const { buffered, currentTime } = this.video;
    const last = buffered.length > 0 ? buffered.end(buffered.length - 1) : 0;
    if (last - currentTime < 0.1 && this.video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) this.end();
  }

  private end = (): void => {
    clearInterval(this.timer);
    this.listener.ended();
  };
}
