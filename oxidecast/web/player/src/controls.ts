// The bar under the picture: buttons, keys, and when to hide.

import { find, icon, make, setIcon, setLabel, setText } from "./dom";
import { levelName, type Level } from "./engine";
import type { Player } from "./player";

/** The bar goes away after this without a pointer or a key, while the stream plays. */
const IDLE = 3_000;
/** Further behind than this, the badge offers the way back. */
const BEHIND = 4;

type SafariVideo = HTMLVideoElement & { webkitEnterFullscreen?: () => void };

export class Controls {
  private readonly root = find("player");
  private readonly playButton = find("c-play");
  private readonly mute = find("c-mute");
  private readonly volume = find<HTMLInputElement>("c-volume");
  private readonly live = find("c-live");
  private readonly latency = find("c-latency");
  private readonly pip = find("c-pip");
  private readonly full = find("c-full");
  private readonly bigPlay = find("big-play");
  private readonly prompt = find("sound-prompt");
  private readonly menu: QualityMenu;
  private idle: number | undefined;
  private latencyShown = 0;

  constructor(private readonly player: Player) {
    const { video } = player;
    this.menu = new QualityMenu(player);
    this.playButton.addEventListener("click", () => player.toggle());
    this.bigPlay.addEventListener("click", () => void player.play());
    this.prompt.addEventListener("click", () => this.unmute());
    this.mute.addEventListener("click", () => this.toggleMute());
    this.volume.addEventListener("input", () => this.setVolume(Number(this.volume.value) / 100));
    this.live.addEventListener("click", () => player.toLive());
    this.pip.addEventListener("click", () => void this.togglePip());
    this.full.hidden = !document.fullscreenEnabled && (video as SafariVideo).webkitEnterFullscreen === undefined;
    this.full.addEventListener("click", () => this.toggleFull());
    document.addEventListener("fullscreenchange", () => this.show());
    video.addEventListener("dblclick", () => this.toggleFull());
    video.addEventListener("click", (event) => {
      // A finger asks for the bar; a mouse has it already.
      if ((event as PointerEvent).pointerType !== "touch" && player.state !== "blocked") player.toggle();
    });
    for (const event of ["pointermove", "pointerdown", "focusin", "keydown"]) {
      this.root.addEventListener(event, () => this.wake());
    }
    this.root.addEventListener("pointerleave", () => this.sleep());
    document.addEventListener("keydown", (event) => this.key(event));
    this.wake();
  }

  show(): void {
    const { player, player: { video, engine, state } } = this;
    this.root.dataset["state"] = state;
    const running = engine !== null && !video.paused;
    setIcon(this.playButton, running ? "pause" : "play");
    setLabel(this.playButton, running ? "Pause (k)" : "Play (k)");
    const quiet = video.muted || video.volume === 0;
    setIcon(this.mute, quiet ? "muted" : "sound");
    setLabel(this.mute, quiet ? "Turn sound on (m)" : "Mute (m)");
    const level = String(quiet ? 0 : Math.round(video.volume * 100));
    if (document.activeElement !== this.volume || quiet) this.volume.value = level;
    this.volume.dataset["level"] = String(Math.round(Number(this.volume.value) / 5) * 5);
    this.prompt.hidden = !(player.soundRefused && video.muted && engine !== null);
    this.bigPlay.hidden = !(state === "blocked" || state === "paused");
    const whole = document.fullscreenElement !== null;
    setIcon(this.full, whole ? "window" : "full");
    setLabel(this.full, whole ? "Leave full screen (f)" : "Full screen (f)");
    this.pip.hidden = !document.pictureInPictureEnabled || video.videoWidth === 0;
    this.showLive();
    this.menu.show();
    if (state !== "playing") this.wake();
  }

  private showLive(): void {
    const { engine } = this.player;
    this.live.hidden = engine === null || this.player.video.readyState === 0;
    if (engine === null) return;
    const behind = engine.behind() > BEHIND || this.player.video.paused;
    this.live.dataset["behind"] = behind ? "yes" : "no";
    setText(find("c-live-word"), behind ? "Go to live" : "Live");
    // Once a second: a number that flickers is one that nobody can read.
    const now = performance.now();
    if (now - this.latencyShown < 1000) return;
    this.latencyShown = now;
    const latency = engine.latency();
    setText(this.latency, latency === null || latency > 3600 ? "" : `${latency.toFixed(latency < 10 ? 1 : 0)} s`);
    const delay = latency === null ? "" : `, ${Math.round(latency)} seconds behind the camera`;
    setLabel(this.live, behind ? `Go to live (l)${delay}` : `Live${delay}`);
  }

  private unmute(): void {
    const { video } = this.player;
    video.muted = false;
    if (video.volume === 0) video.volume = 0.5;
    void this.player.play();
  }

  private toggleMute(): void {
    const { video } = this.player;
    if (video.muted || video.volume === 0) this.unmute();
    else video.muted = true;
  }

  private setVolume(volume: number): void {
    const { video } = this.player;
    video.volume = Math.min(1, Math.max(0, volume));
    video.muted = video.volume === 0;
  }

  private async togglePip(): Promise<void> {
    try {
      if (document.pictureInPictureElement !== null) await document.exitPictureInPicture();
      else await this.player.video.requestPictureInPicture();
    } catch {
      // Refused while there is no picture: there is nothing to show in a small window either.
    }
  }

  private toggleFull(): void {
    const video = this.player.video as SafariVideo;
    if (document.fullscreenElement !== null) void document.exitFullscreen();
    else if (document.fullscreenEnabled) void this.root.requestFullscreen().catch(() => undefined);
    else video.webkitEnterFullscreen?.(); // An iPhone has full screen for videos only.
  }

  private key(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (/^(INPUT|TEXTAREA|SELECT|SUMMARY|A)$/.test(target.tagName) || target.getAttribute("role") === "menuitemradio") return;
    // Space and Enter belong to the button that has the focus.
    if (target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
    const action = this.keys[event.key.toLowerCase()];
    if (action === undefined) return;
    event.preventDefault();
    this.wake();
    action();
  }

  private readonly keys: Record<string, () => void> = {
    " ": () => this.player.toggle(),
    k: () => this.player.toggle(),
    m: () => this.toggleMute(),
    f: () => this.toggleFull(),
    p: () => void this.togglePip(),
    l: () => this.player.toLive(),
    arrowup: () => this.setVolume(this.player.video.volume + 0.05),
    arrowdown: () => this.setVolume(this.player.video.volume - 0.05),
  };

  private wake(): void {
    this.root.dataset["controls"] = "shown";
    clearTimeout(this.idle);
    this.idle = window.setTimeout(() => this.sleep(), IDLE);
  }

  private sleep(): void {
    const focused = this.root.querySelector(":focus-visible");
    if (this.player.state !== "playing" || this.menu.open || (focused !== null && focused !== this.root)) return;
    this.root.dataset["controls"] = "hidden";
  }
}

class QualityMenu {
  open = false;
  private readonly root = find("c-menu");
  private readonly button = find("c-quality");
  private readonly list = find("c-levels");
  private built: Level[] | null = null;

  constructor(private readonly player: Player) {
    this.button.addEventListener("click", () => this.toggle(!this.open));
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.addEventListener("focusout", (event) => {
      if (!this.root.contains(event.relatedTarget as Node | null)) this.toggle(false);
    });
    document.addEventListener("pointerdown", (event) => {
      if (this.open && !this.root.contains(event.target as Node)) this.toggle(false);
    });
  }

  show(): void {
    const { engine } = this.player;
    const levels = engine?.levels ?? [];
    this.root.hidden = levels.length < 2;
    if (engine === null || levels.length < 2) {
      this.toggle(false);
      return;
    }
    if (this.built !== levels) this.build(levels);
    const current = levels.find((level) => level.id === engine.current);
    const chosen = levels.find((level) => level.id === engine.chosen);
    const name = chosen === undefined ? automatic(current, levels) : levelName(chosen, levels);
    setText(find("c-quality-word"), name);
    setLabel(this.button, `Picture quality: ${name}`);
    const first = this.items()[0]?.querySelector("span") ?? null;
    if (first !== null) setText(first, chosen === undefined ? name : "Auto");
    for (const item of this.items()) {
      item.setAttribute("aria-checked", String(Number(item.dataset["level"]) === engine.chosen));
    }
  }

  private build(levels: Level[]): void {
    this.built = levels;
    const item = (id: number, name: string): HTMLElement => {
      const button = make("button", "", icon("check"), make("span", "", name));
      button.setAttribute("type", "button");
      button.setAttribute("role", "menuitemradio");
      button.dataset["level"] = String(id);
      button.addEventListener("click", () => {
        this.player.choose(id);
        this.toggle(false);
        this.button.focus();
      });
      return button;
    };
    this.list.replaceChildren(item(-1, "Auto"), ...levels.map((level) => item(level.id, levelName(level, levels))));
  }

  private items(): HTMLElement[] {
    return [...this.list.children] as HTMLElement[];
  }

  private toggle(open: boolean): void {
    if (this.open === open) return;
    this.open = open;
    this.list.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.items().find((item) => item.getAttribute("aria-checked") === "true")?.focus();
  }

  private key(event: KeyboardEvent): void {
    if (!this.open) return;
    const items = this.items();
    const at = items.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Escape") {
      this.toggle(false);
      this.button.focus();
    } else if (step !== undefined) items[(step + items.length) % items.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** "Auto (720p)": what it has come to. */
function automatic(current: Level | undefined, levels: Level[]): string {
  return current === undefined ? "Auto" : `Auto (${levelName(current, levels)})`;
}
