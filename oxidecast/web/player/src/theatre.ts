// Puts the player on a page: the stream's name and token come from the page's own address, and from nowhere else.

import { Controls } from "./controls";
import { copyButtons } from "./dom";
import { Player, type State, type Stats } from "./player";
import { Screen } from "./screen";

declare global {
  interface Window {
    /** For tests and for the curious in the console. */
    oxidecastPlayer?: { readonly state: State; stats(): Stats };
  }
}

function nameFromAddress(): string {
  const last = location.pathname.split("/").filter(Boolean).pop() ?? "";
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

export function openTheatre(onchange: (player: Player) => void = () => undefined): Player {
  const video = document.querySelector("video");
  if (video === null) throw new Error("the page has no <video>");
  const query = new URLSearchParams(location.search);
  const player = new Player(video, nameFromAddress(), query.get("token"), query.get("latency") === "low");
  const controls = new Controls(player);
  const screen = new Screen(player);
  player.onchange = () => {
    controls.show();
    screen.show();
    onchange(player);
  };
  window.oxidecastPlayer = {
    get state() {
      return player.state;
    },
    stats: () => player.stats(),
  };
  copyButtons();
  player.onchange();
  void player.connect();
  return player;
}
