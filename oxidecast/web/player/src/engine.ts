// What the player asks of whatever moves media into the <video> element: hls.js, or Safari's own player.

export interface Level {
  id: number;
  height: number;
  width: number;
  bitrate: number;
  frameRate: number;
}

/** The size in the way of televisions, also for an upright picture; 0 for sound alone. */
export function shortSide(level: Level): number {
  return Math.min(level.height, level.width || level.height);
}

/** "720p", "1080p60": rates up to 30 are not worth a word. */
export function levelName(level: Level, all: Level[]): string {
  const side = shortSide(level);
  if (side === 0) return "Sound only";
  const size = `${side}p${level.frameRate > 31 ? Math.round(level.frameRate) : ""}`;
  const twins = all.filter((other) => shortSide(other) === side && other.id !== level.id);
  return twins.length > 0 ? `${size}, ${(level.bitrate / 1e6).toFixed(1)} Mbit/s` : size;
}

export type Trouble =
  /** The address gave no media for a while, or refuses: ask the API what became of the stream, and come back. */
  | "network"
  /** The decoder gave up, and gentle recovery did not help. */
  | "media"
  /** No variant can be decoded here. */
  | "codec";

export interface EngineListener {
  levelsKnown(): void;
  /** Which of them to begin with and keep to, by its id; -1 for automatic. */
  preferred(levels: Level[]): number;
  /** The playlist says that no more will come, and what it had is played. */
  ended(): void;
  trouble(kind: Trouble, detail: string): void;
}

export interface Engine {
  load(address: string): void;
  destroy(): void;
  /** To choose from, best first; empty when the engine keeps the choice to itself. */
  readonly levels: Level[];
  /** The id that the viewer chose, -1 for automatic. */
  chosen: number;
  /** The id on screen, -1 while unknown. */
  readonly current: number;
  /** Seconds from the broadcaster's clock to what is on screen, null while unknown. */
  latency(): number | null;
  /** Seconds behind the place where a new viewer would start. */
  behind(): number;
  toLive(): void;
  /** True while the playlist has brought nothing new for longer than it promises. */
  readonly silent: boolean;
}
