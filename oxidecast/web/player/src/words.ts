// Numbers and codecs as people read them.

import type { Track } from "./api";

export function viewers(count: number): string {
  return count === 1 ? "1 viewer" : `${count.toLocaleString("en")} viewers`;
}

/** "Live for 12 min". */
export function since(startedAt: string, now: number): string {
  const minutes = Math.floor((now - Date.parse(startedAt)) / 60_000);
  if (Number.isNaN(minutes) || minutes < 1) return "Just went live";
  if (minutes < 60) return `Live for ${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `Live for ${hours} h ${minutes % 60} min`;
  return `Live for ${Math.floor(hours / 24)} days`;
}

/** "1080p" for a picture, in the way of televisions: by the short side. */
export function pictureSize(tracks: Track[]): string {
  const video = tracks.find((track) => track.kind === "video");
  if (video === undefined) return tracks.length > 0 ? "Audio" : "";
  return video.height > 0 ? `${Math.min(video.width || video.height, video.height)}p` : "";
}

const CODECS: [RegExp, string][] = [
  [/^(hvc1|hev1)/i, "H.265 (HEVC)"],
  [/^(avc1|avc3)/i, "H.264 (AVC)"],
  [/^av01/i, "AV1"],
  [/^vp0?9/i, "VP9"],
  [/^vp0?8/i, "VP8"],
  [/^(mp3|mp4a\.(6b|69|40\.34))/i, "MP3"],
  [/^(mp4a)/i, "AAC"],
  [/^opus/i, "Opus"],
  [/^ec-3/i, "Dolby Digital Plus"],
  [/^ac-3/i, "Dolby Digital"],
];

export function codecName(codecString: string): string {
  return CODECS.find(([pattern]) => pattern.test(codecString))?.[1] ?? codecString;
}

/** "MP3", "AV1 and MP3": each once. */
export function enumerate(words: string[]): string {
  const each = [...new Set(words)];
  const last = each.pop() ?? "";
  return each.length > 0 ? `${each.join(", ")} and ${last}` : last;
}

/** What plays a codec that this browser does not. */
export function whoPlays(codecString: string): string {
  if (/^(hvc1|hev1)/i.test(codecString)) {
    return "Safari plays it, and so do Chrome and Edge on devices with an HEVC decoder. VLC plays it everywhere.";
  }
  if (/^av01/i.test(codecString)) return "Current Chrome, Edge and Firefox play it, and so does VLC.";
  return "VLC plays it.";
}
