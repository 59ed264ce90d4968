// The server's HTTP API as the pages need it: read-only, one envelope, errors that carry their status.

export interface Track {
  kind: "video" | "audio";
  codec: string;
  codec_string: string;
  width: number;
  height: number;
  sample_rate: number;
  channels: number;
}

/** `state` is "running", "planned" where it is made as soon as somebody asks, or "left_out" where it is not made. */
export interface Quality {
  name: string;
  state: string;
}

export interface Stream {
  id: string;
  name: string;
  title: string;
  description: string | null;
  category: string | null;
  is_live: boolean;
  viewer_count: number;
  started_at: string | null;
  thumbnail_url: string | null;
  tracks: Track[];
  qualities: Quality[];
  /** What people should know of the stream, in sentences: what an output leaves out, what its encoder does badly. */
  notices: string[];
  stream_urls: { hls?: string; webrtc?: string };
}

export interface Page<T> {
  items: T[];
  total: number;
  page: number;
  limit: number;
  total_pages: number;
}

interface Envelope<T> {
  success: boolean;
  data: T | null;
  error: string | null;
  code: string | null;
  timestamp: string;
}

/** `status` is 0 when no answer came at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const PATIENCE = 10_000;

let clockOffset = 0;
let clockSet = false;

/** The server's wall clock, so that latency is right on a viewer's machine whose clock is wrong. */
export function serverNow(): number {
  return Date.now() + clockOffset;
}

function compareClocks(timestamp: string, asked: number): void {
  const answered = Date.now();
  const there = Date.parse(timestamp);
  // A slow answer says little about the other clock; the first is better than none.
  if (Number.isNaN(there) || (clockSet && answered - asked > 500)) return;
  clockOffset = there - (asked + answered) / 2;
  clockSet = true;
}

async function get<T>(path: string, query: Record<string, string>): Promise<T> {
  const search = new URLSearchParams(query).toString();
  const gone = new AbortController();
  const timer = setTimeout(() => gone.abort(), PATIENCE);
  const asked = Date.now();
  try {
    const response = await fetch(`/api/v1${path}${search && `?${search}`}`, {
      cache: "no-store",
      credentials: "same-origin",
      headers: { Accept: "application/json" },
      signal: gone.signal,
    });
    const envelope = (await response.json()) as Envelope<T>;
    compareClocks(envelope.timestamp, asked);
    if (!response.ok || envelope.data === null) {
      throw new ApiError(response.status, envelope.error ?? response.statusText);
    }
    return envelope.data;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(0, "The server does not answer.");
  } finally {
    clearTimeout(timer);
  }
}

export function liveStreams(page: number, limit: number): Promise<Page<Stream>> {
  return get("/streams", { live: "true", page: String(page), limit: String(limit) });
}

export function oneStream(name: string, token: string | null): Promise<Stream> {
  return get(`/streams/${encodeURIComponent(name)}`, token === null ? {} : { token });
}

/** Where encoders publish to by RTMP. */
export async function ingestAddress(): Promise<string> {
  const { ingest_urls } = await get<{ ingest_urls: string[] }>("/ingests", {});
  const address = ingest_urls.find((url) => url.startsWith("rtmp"));
  if (address === undefined) throw new ApiError(0, "This server takes no RTMP.");
  return address;
}

/** The playlist of a stream, absolute, with the playback token of this page. */
export function playlistAddress(stream: Stream, token: string | null): string {
  const path = stream.stream_urls.hls ?? `/api/v1/hls/${encodeURIComponent(stream.name)}/playlist.m3u8`;
  return withToken(path, token);
}

/** Where the stream is watched by WebRTC; empty where it is not. */
export function whepAddress(stream: Stream, token: string | null): string {
  const path = stream.stream_urls.webrtc;
  return path === undefined ? "" : withToken(path, token);
}

/** The stream's latest picture; empty while there is none. */
export function pictureAddress(stream: Stream, token: string | null): string {
  return stream.thumbnail_url === null ? "" : withToken(stream.thumbnail_url, token);
}

function withToken(path: string, token: string | null): string {
  const address = new URL(path, location.origin);
  if (token !== null) address.searchParams.set("token", token);
  return address.href;
}

/** A playlist's text, or the code of the answer that came instead; neither when no answer came. */
export interface PlaylistAnswer {
  text: string;
  code: string | null;
}

export async function readPlaylist(address: string): Promise<PlaylistAnswer> {
  try {
    const response = await fetch(address, { cache: "no-store", credentials: "same-origin" });
    if (response.ok) return { text: await response.text(), code: null };
    return { text: "", code: ((await response.json()) as Envelope<never>).code };
  } catch {
    return { text: "", code: null };
  }
}
