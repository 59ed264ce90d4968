// What this browser can decode, asked before anything is tried, and what a multivariant playlist offers.

import type { Track } from "./api";

type Source = { isTypeSupported(type: string): boolean };

function mediaSource(): Source | undefined {
  const scope = window as unknown as { ManagedMediaSource?: Source; MediaSource?: Source };
  return scope.ManagedMediaSource ?? scope.MediaSource;
}

export function hasMediaSource(): boolean {
  return mediaSource() !== undefined;
}

/** True for Safari, whose own player is better than any script: less battery, AirPlay, HEVC. Chromium has learnt HLS
 *  too, but falls behind hls.js in recovering, so the question is for the browser, not for the format. */
export function prefersNative(video: HTMLVideoElement): boolean {
  if (video.canPlayType("application/vnd.apple.mpegurl") === "") return false;
  return "webkitSupportsPresentationMode" in video || !hasMediaSource();
}

export function canDecode(codecString: string, kind: "video" | "audio"): boolean {
  // A server that does not know the codec string has said nothing that could be refused.
  if (codecString === "") return true;
  const type = `${kind}/mp4; codecs="${codecString}"`;
  const source = mediaSource();
  if (source !== undefined) return source.isTypeSupported(type);
  return document.createElement("video").canPlayType(type) !== "";
}

export function undecodable(tracks: Track[]): Track[] {
  return tracks.filter((track) => !canDecode(track.codec_string, track.kind));
}

const VIDEO = /^(avc|hvc|hev|dvh|av01|vp0|vp8|vp9)/i;

export type Offer = "picture" | "sound" | "nothing";

/** The best that any variant of a multivariant playlist gives this browser. */
export function bestOffer(playlist: string): Offer {
  let best: Offer = "nothing";
  for (const [, attributes] of playlist.matchAll(/^#EXT-X-STREAM-INF:(.*)$/gm)) {
    const codecs = /(?:^|,)CODECS="([^"]*)"/.exec(attributes ?? "")?.[1];
    if (codecs === undefined) continue;
    const parts = codecs.split(",").map((part) => part.trim());
    const picture = parts.some((part) => VIDEO.test(part));
    if (!parts.every((part) => canDecode(part, VIDEO.test(part) ? "video" : "audio"))) continue;
    if (picture) return "picture";
    best = "sound";
  }
  return best;
}
