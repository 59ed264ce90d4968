// What the bundler understands and the type checker has to be told.

declare module "*.css";

/** The light build has the same interface, without DRM, subtitles, CMCD and separate audio playlists. */
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}
