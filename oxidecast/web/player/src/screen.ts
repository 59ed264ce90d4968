// What the theatre says when there is no picture, or less than there could be.

import { pictureAddress, playlistAddress } from "./api";
import { find, setItems, setText } from "./dom";
import type { Player } from "./player";
import { codecName, enumerate, whoPlays } from "./words";

interface Message {
  title: string;
  text: string;
  notices?: string[];
  retry?: boolean;
  list?: boolean;
  address?: boolean;
}

export class Screen {
  private readonly screen = find("screen");
  private readonly toast = find("toast");
  private readonly still = find("still");
  private readonly art = find<HTMLImageElement>("still-art");

  constructor(private readonly player: Player) {
    find("screen-retry").addEventListener("click", () => void player.connect());
    this.art.addEventListener("load", () => (this.art.hidden = false));
    this.art.addEventListener("error", () => (this.art.hidden = true));
  }

  show(): void {
    const { player } = this;
    const message = this.message();
    this.screen.hidden = message === null;
    if (message !== null) {
      setText(find("screen-title"), message.title);
      setText(find("screen-text"), message.text);
      setItems(find("screen-notices"), message.notices ?? []);
      find("screen-retry").hidden = !message.retry;
      find("screen-list").hidden = !message.list;
      find("screen-address").hidden = !message.address;
      if (message.address && player.stream !== null) {
        const field = find<HTMLInputElement>("hls-address");
        const address = playlistAddress(player.stream, player.token);
        if (field.value !== address) field.value = address;
      }
    }
    this.showStill(message === null);
    const note = this.note();
    this.toast.hidden = note === "";
    setText(this.toast, note);
  }

  private message(): Message | null {
    const { player } = this;
    const title = player.stream?.title || player.name;
    switch (player.state) {
      case "offline":
        return { title: `${title} is not live`, text: "Stay on this page: it starts by itself.", list: true };
      case "ended":
        return { title: "The stream has ended", text: "If it goes live again, it starts here by itself.", list: true };
      case "missing":
        return { title: "There is no such stream", text: "The address may be misspelt, or the stream was removed.", list: true };
      case "private":
        return {
          title: "This stream is private",
          text: "It takes a link from its owner. If you had one, it may have expired.",
          retry: true,
          list: true,
        };
      case "failed":
        return { title: "The picture cannot be decoded", text: `The browser gave up: ${player.detail}.`, retry: true, address: true };
      case "uncarried":
        return this.uncarried();
      case "unsupported":
        return this.unsupported();
      case "waiting":
        return player.engine === null ? { title: "Reconnecting", text: "The server does not answer. Trying again." } : null;
      default:
        return null;
    }
  }

  private uncarried(): Message {
    const { stream } = this.player;
    const codecs = (stream?.tracks ?? []).map((track) => codecName(track.codec_string) || track.codec);
    return {
      title: `The server cannot send ${enumerate(codecs) || "this stream"} by HLS`,
      text: "So there is nothing to play here. It starts by itself when the encoder changes to another codec.",
      notices: stream?.notices ?? [],
      list: true,
    };
  }

  private unsupported(): Message {
    const { lost } = this.player;
    const worst = lost.find((track) => track.kind === "video") ?? lost[0];
    if (worst === undefined) {
      return { title: "This browser cannot play this stream", text: "It has no decoder for it. VLC plays it.", address: true };
    }
    const what = worst.kind === "video" ? "picture" : "sound";
    const name = codecName(worst.codec_string);
    return {
      title: `This browser cannot play ${name}`,
      text: `The ${what} of this stream is coded as ${worst.codec_string}, and this browser has no decoder for that. ${whoPlays(worst.codec_string)}`,
      address: true,
      retry: true,
    };
  }

  private note(): string {
    const { player } = this;
    if (player.state === "waiting" && player.engine !== null) return "The signal dropped. Waiting for it to come back.";
    const video = player.lost.find((track) => track.kind === "video");
    if (video !== undefined && player.engine !== null) {
      return `Sound only: this browser cannot play ${codecName(video.codec_string)} (${video.codec_string}).`;
    }
    return "";
  }

  /** A stream of sound alone has something to look at too. */
  private showStill(free: boolean): void {
    const { stream, engine, video, lost } = this.player;
    const tracks = stream?.tracks ?? [];
    const silentPicture = tracks.length > 0 && tracks.every((track) => track.kind === "audio" || lost.includes(track));
    const shown = free && engine !== null && silentPicture && video.videoWidth === 0;
    this.still.hidden = !shown;
    if (!shown || stream === null) return;
    setText(find("still-title"), stream.title || stream.name);
    setText(find("still-note"), lost.length > 0 ? "Sound only" : "Audio stream");
    const art = pictureAddress(stream, this.player.token);
    if (art !== "" && this.art.getAttribute("src") !== art) this.art.src = art;
  }
}
