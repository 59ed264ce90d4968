// "/player/{stream}": the theatre, what is on, and what else is.

import "../../styles/watch.css";
import { liveStreams, playlistAddress, serverNow } from "../api";
import { Cards } from "../cards";
import { levelName, shortSide } from "../engine";
import { find, repeat, setItems, setText } from "../dom";
import type { Player } from "../player";
import { openTheatre } from "../theatre";
import { pictureSize, since, viewers } from "../words";

const ALSO = 4;

function describe(player: Player): void {
  const { stream, name, token, state } = player;
  const title = stream?.title || name;
  setText(find("title"), title);
  document.title = `${title} · OxideCast`;
  if (stream === null) return;
  find("share").hidden = false;
  const live = stream.is_live && state !== "ended";
  const facts = live
    ? [stream.viewer_count > 0 && viewers(stream.viewer_count), stream.started_at && since(stream.started_at, serverNow()), stream.category, playing(player)]
    : ["Not live", stream.category];
  setText(find("facts"), facts.filter(Boolean).join(" · "));
  setText(find("description"), stream.description ?? "");
  find("description").hidden = !stream.description;
  // While nothing can be sent, the notices stand in the theatre, and the address for other players answers with an error.
  const uncarried = state === "uncarried";
  setItems(find("notices"), uncarried ? [] : stream.notices);
  find("share-players").hidden = uncarried;
  fill("share-link", location.href);
  const embed = new URL(`/embed/${encodeURIComponent(stream.name)}${location.search}`, location.origin).href;
  fill("share-embed", `<iframe src="${embed}" width="960" height="540" allow="autoplay; fullscreen; picture-in-picture"></iframe>`);
  fill("share-hls", playlistAddress(stream, token));
}

/** The size that is on screen, with its frame rate where that is more than usual. */
function playing({ stream, engine, video }: Player): string {
  const size = Math.min(video.videoWidth, video.videoHeight);
  if (size === 0) return pictureSize(stream?.tracks ?? []);
  const level = engine?.levels.find((one) => one.id === engine.current && shortSide(one) === size);
  return level === undefined ? `${size}p` : levelName(level, [level]);
}

function fill(id: string, value: string): void {
  const field = find<HTMLInputElement>(id);
  if (field.value !== value) field.value = value;
}

const player = openTheatre(describe);
const cards = new Cards(find("cards"));
repeat(async () => {
  try {
    const { items } = await liveStreams(1, ALSO + 1);
    const others = items.filter((item) => item.name !== player.name && item.id !== player.name).slice(0, ALSO);
    cards.show(others);
    find("more").hidden = others.length === 0;
  } catch {
    // The list is a courtesy: the player says what is wrong with the server.
  }
}, 15);
