// One stream in one <video>: a state machine that asks the API what there is, gives the playlist to an engine, and
// comes back by itself from whatever ends. It knows no buttons; `screen.ts` and `controls.ts` show what it says.

import { ApiError, oneStream, playlistAddress, readPlaylist, whepAddress, type Stream, type Track } from "./api";
import { bestOffer, hasMediaSource, prefersNative, undecodable } from "./codecs";
import { shortSide, type Engine, type EngineListener, type Level, type Trouble } from "./engine";
import { NativeEngine } from "./engines/native";
import { WhepEngine } from "./engines/whep";

export type State =
  | "loading" // nothing on screen yet, and nothing wrong
  | "playing"
  | "paused" // by the viewer
  | "stalled" // the buffer ran dry a moment ago
  | "waiting" // the publisher or the server is away; we keep trying
  | "blocked" // the browser wants a click first
  | "offline" // not live now; starts by itself
  | "ended" // was live, is over; starts again by itself
  | "uncarried" // no codec that the server can send; starts by itself when the encoder changes
  | "unsupported" // no codec that this browser can decode
  | "missing"
  | "private"
  | "failed";

export interface Stats {
  droppedFrames: number;
  totalFrames: number;
  currentTime: number;
  latency: number | null;
  width: number;
  height: number;
}

/** How often the API is asked while a stream plays, and while one is awaited. */
const POLL_LIVE = 10_000;
/** The first time: the viewer should see themself counted. */
const POLL_STARTED = 2_000;
const POLL_OFFLINE = 2_500;
/** A dry buffer shows its spinner after this: shorter ones are seen as a hitch anyway. */
const STALL = 400;
/** After this without a frame while the playlist moves on, start over; with a silent playlist, wait for longer. */
const GIVE_UP_STALL = 15_000;
const GIVE_UP_SILENT = 45_000;
const BACK_OFF = [1_000, 2_000, 4_000, 8_000, 15_000];
const MEDIA_FAILURES = 3;

/** States in which the viewer is told what is awaited, while we look for it again and again. */
const PATIENT: readonly State[] = ["offline", "ended", "waiting", "uncarried"];
/** The server's code for a stream of which it can send nothing. */
const NOT_CARRIED = "not_carried";

const stored = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(`oxidecast.${key}`);
    } catch {
      return null; // An embedding page may have no storage of ours.
    }
  },
  set(key: string, value: string): void {
    try {
      localStorage.setItem(`oxidecast.${key}`, value);
    } catch {
      // The volume is then forgotten, no more.
    }
  },
};

/** The names of what there is to choose from. */
function qualities(stream: Stream): string[] {
  return stream.qualities.filter(({ state }) => state !== "left_out").map(({ name }) => name);
}

export class Player implements EngineListener {
  state: State = "loading";
  stream: Stream | null = null;
  engine: Engine | null = null;
  /** Tracks that this browser cannot decode, whether or not something else of the stream plays. */
  lost: Track[] = [];
  /** What the engine said when it gave up. */
  detail = "";
  /** The browser refused sound until a click. */
  soundRefused = false;
  onchange: () => void = () => undefined;

  private wanted = true;
  private attempt = 0;
  private failures = 0;
  private mediaFailures = 0;
  private timer: number | undefined;
  private lastTime = -1;
  private lastMoved = performance.now();
  private wasLive = false;
  /** The qualities that there were when the engine began: it reads the list of them once. */
  private listed = new Set<string>();

  constructor(
    readonly video: HTMLVideoElement,
    readonly name: string,
    readonly token: string | null,
    /** Whether the least delay is wanted. What cannot be had so is played with more. */
    private hurried = false,
  ) {
    video.volume = Math.min(1, Math.max(0, Number(stored.get("volume") ?? 1) || 0));
    video.muted = stored.get("muted") === "yes";
    video.addEventListener("volumechange", () => {
      if (!video.muted) this.soundRefused = false;
      if (!this.soundRefused) stored.set("muted", video.muted ? "yes" : "no");
      stored.set("volume", String(video.volume));
      this.onchange();
    });
    video.addEventListener("pause", () => this.paused());
    video.addEventListener("play", () => {
      this.wanted = true;
    });
    for (const event of ["playing", "resize", "loadeddata"]) video.addEventListener(event, () => this.onchange());
    window.addEventListener("online", () => {
      if (this.state === "waiting") void this.connect();
    });
    window.setInterval(() => this.tick(), 250);
  }

  stats(): Stats {
    const quality = this.video.getVideoPlaybackQuality();
    return {
      droppedFrames: quality.droppedVideoFrames,
      totalFrames: quality.totalVideoFrames,
      currentTime: this.video.currentTime,
      latency: this.engine?.latency() ?? null,
      width: this.video.videoWidth,
      height: this.video.videoHeight,
    };
  }

  /** Asks the API, and plays what it names. Also the way back from everything that went wrong. */
  async connect(): Promise<void> {
    const attempt = ++this.attempt;
    clearTimeout(this.timer);
    this.close();
    this.fetchEngine();
    if (!PATIENT.includes(this.state)) this.become("loading");
    try {
      const stream = await oneStream(this.name, this.token);
      if (attempt !== this.attempt) return;
      this.stream = stream;
      this.failures = 0;
      if (stream.is_live) await this.open(stream, attempt);
      else this.rest();
    } catch (error) {
      if (attempt === this.attempt) this.refused(error instanceof ApiError ? error.status : 0);
    }
  }

  /** Plays, without sound if the browser insists. */
  async play(): Promise<void> {
    this.wanted = true;
    try {
      await this.video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.video.muted) {
        this.become("blocked");
        return;
      }
      this.soundRefused = true;
      this.video.muted = true;
      await this.play();
    }
    this.onchange();
  }

  toggle(): void {
    if (this.engine === null) return;
    if (this.video.paused) void this.play();
    else this.video.pause();
  }

  toLive(): void {
    this.engine?.toLive();
    void this.play();
  }

  levelsKnown(): void {
    this.onchange();
  }

  /** By the viewer: -1 for automatic. The next streams, too, play as large as that, if they have it. */
  choose(id: number): void {
    if (this.engine === null) return;
    this.engine.chosen = id;
    const level = this.engine.levels.find((one) => one.id === id);
    stored.set("quality", level === undefined ? "auto" : `${shortSide(level)}p${level.frameRate}`);
    this.onchange();
  }

  /** What was chosen before, or the nearest to it that is no larger: -1 when that is nothing. */
  preferred(levels: Level[]): number {
    const [height, rate] = (stored.get("quality") ?? "").split("p").map(Number);
    if (levels.length < 2 || !height) return -1;
    const fitting = levels.filter((level) => shortSide(level) <= height);
    // Best first. Of the same size, the one with the frame rate that was chosen.
    const best = fitting[0] ?? levels[levels.length - 1]!;
    const twin = fitting.find((level) => shortSide(level) === shortSide(best) && level.frameRate === rate);
    return (twin ?? best).id;
  }

  ended(): void {
    this.close();
    this.wasLive = true;
    this.become("ended");
    this.later(POLL_OFFLINE);
  }

  trouble(kind: Trouble, detail: string): void {
    this.detail = detail;
    if (this.engine instanceof WhepEngine && !this.engine.played) {
      this.hurried = false;
      void this.connect();
      return;
    }
    if (kind === "codec") {
      this.close();
      this.become("unsupported");
      return;
    }
    if (kind === "media" && ++this.mediaFailures > MEDIA_FAILURES) {
      this.close();
      this.become("failed");
      return;
    }
    this.close();
    this.become("waiting");
    this.later(this.backOff());
    if (kind === "network" && this.stream !== null) void this.askWhy(playlistAddress(this.stream, this.token));
  }

  /** An engine knows that it was refused or gets nothing new, but not why. */
  private async askWhy(address: string): Promise<void> {
    const attempt = this.attempt;
    const { code } = await readPlaylist(address);
    if (attempt === this.attempt && code === NOT_CARRIED) this.awaitCodec();
  }

  private async open(stream: Stream, attempt: number): Promise<void> {
    const direct = whepAddress(stream, this.token);
    if (this.hurried && direct !== "" && WhepEngine.supported()) {
      this.begin(new WhepEngine(this.video, this), direct);
      return;
    }
    const address = playlistAddress(stream, this.token);
    this.lost = undecodable(stream.tracks);
    if (this.lost.length > 0 || this.state === "uncarried") {
      const { text, code } = await readPlaylist(address);
      if (attempt !== this.attempt) return;
      // What is not sent at all is no question of this browser's.
      if (code === NOT_CARRIED) {
        this.awaitCodec();
        return;
      }
      if (text === "") {
        this.become("waiting");
        this.later(this.backOff());
        return;
      }
      const offer = bestOffer(text);
      if (this.lost.length > 0 && offer === "nothing") {
        this.become("unsupported");
        return;
      }
      if (offer === "picture") this.lost = [];
    }
    const engine = await this.makeEngine();
    if (attempt !== this.attempt) return;
    if (engine === null) {
      this.become("unsupported");
      return;
    }
    this.begin(engine, address);
  }

  private begin(engine: Engine, address: string): void {
    this.engine = engine;
    this.lastMoved = performance.now();
    this.lastTime = -1;
    this.listed = new Set(this.stream === null ? [] : qualities(this.stream));
    engine.load(address);
    if (this.wanted) void this.play();
    else this.become("paused");
    this.later(POLL_STARTED);
  }

  /** Starts to load hls.js while the API is still thinking, where hls.js will be needed. */
  private fetchEngine(): Promise<typeof import("./engines/hls")> | null {
    if (prefersNative(this.video) || !hasMediaSource()) return null;
    const loading = import("./engines/hls");
    loading.catch(() => undefined);
    return loading;
  }

  private async makeEngine(): Promise<Engine | null> {
    if (prefersNative(this.video)) return new NativeEngine(this.video, this);
    const loaded = await this.fetchEngine();
    return loaded?.HlsEngine.supported() ? new loaded.HlsEngine(this.video, this) : null;
  }

  private close(): void {
    this.engine?.destroy();
    this.engine = null;
  }

  /** Not live: say so, and ask again soon. */
  private rest(): void {
    this.become(this.wasLive ? "ended" : "offline");
    this.later(POLL_OFFLINE);
  }

  /** Live, but without a codec that the server can send: say so, and ask again soon. */
  private awaitCodec(): void {
    this.close();
    this.become("uncarried");
    this.later(POLL_OFFLINE);
  }

  private refused(status: number): void {
    if (status === 404) this.become("missing");
    else if (status === 401 || status === 403) this.become("private");
    else {
      this.become("waiting");
      this.later(this.backOff());
    }
  }

  private backOff(): number {
    const wait = BACK_OFF[Math.min(this.failures, BACK_OFF.length - 1)] ?? 15_000;
    this.failures += 1;
    // A restarted server should not meet all its viewers in the same instant.
    return wait * (0.75 + Math.random() / 2);
  }

  private later(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void (this.engine === null ? this.connect() : this.refresh()), milliseconds);
  }

  /** Viewer count, title and notices, while the engine plays on. */
  private async refresh(): Promise<void> {
    const attempt = this.attempt;
    try {
      const stream = await oneStream(this.name, this.token);
      if (attempt !== this.attempt) return;
      this.stream = stream;
      this.onchange();
      if (this.state === "playing" && this.lacks(stream)) {
        await this.connect();
        return;
      }
      // The encoder may have come back with what cannot be sent: then the playlist that we know stands still for ever.
      if (this.state === "waiting") await this.askWhy(playlistAddress(stream, this.token));
    } catch {
      // The picture goes on: media and API may fail apart, and the engine says when media does.
    }
    if (attempt === this.attempt && this.engine !== null) this.later(POLL_LIVE);
  }

  /** Whether there are qualities of which the engine knows nothing. By WebRTC, the server chooses from all. */
  private lacks(stream: Stream): boolean {
    return !(this.engine instanceof WhepEngine) && qualities(stream).some((name) => !this.listed.has(name));
  }

  private paused(): void {
    // The end of a stream pauses the element too, and so does a detached source.
    if (this.engine === null || this.video.ended || this.video.readyState === 0) return;
    this.wanted = false;
    this.become("paused");
  }

  private tick(): void {
    if (this.engine === null) return;
    const now = performance.now();
    const { currentTime, paused } = this.video;
    if (paused) {
      this.lastMoved = now;
    } else if (currentTime !== this.lastTime) {
      const first = this.lastTime < 0;
      this.lastTime = currentTime;
      this.lastMoved = now;
      if (!first) {
        this.wasLive = true;
        this.failures = 0;
        if (this.state !== "playing") this.become("playing");
      }
    } else this.still(now - this.lastMoved);
    this.onchange();
  }

  /** Nothing has moved for that long, although it should. */
  private still(milliseconds: number): void {
    const silent = this.engine?.silent ?? false;
    if (milliseconds > (silent ? GIVE_UP_SILENT : GIVE_UP_STALL)) {
      this.become("waiting");
      void this.connect();
    } else if (silent && milliseconds > STALL && this.wasLive) this.become("waiting");
    else if (milliseconds > STALL && this.state === "playing") this.become("stalled");
  }

  private become(state: State): void {
    if (this.state === state) return;
    this.state = state;
    this.onchange();
  }
}
