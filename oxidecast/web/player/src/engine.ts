// What the player asks of whatever moves media into the <video> element: hls.js, or Safari's own player.

export interface Level {
  id: number;
  height: number;
  width: number;
  bitrate: number;
  frameRate: number;
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
