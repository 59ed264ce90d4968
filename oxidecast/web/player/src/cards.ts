// A grid of live streams that updates in place, so that neither focus nor a hovered card is lost by a refresh.

import { serverNow, type Stream } from "./api";
import { icon, make, setText } from "./dom";
import { pictureSize, since, viewers } from "./words";

class Card {
  readonly item = make("li", "card");
  private readonly link = document.createElement("a");
  private readonly image = document.createElement("img");
  private readonly initial = make("span", "card-initial");
  private readonly size = make("span", "card-size");
  private readonly count = make("span");
  private readonly watching = make("span", "card-viewers", icon("eye"), this.count);
  private readonly title = make("h3");
  private readonly facts = make("p");

  constructor() {
    this.image.loading = "lazy";
    this.image.decoding = "async";
    // Unseen until it is there, but laid out: a lazy image without a box would never be loaded.
    this.image.addEventListener("load", () => this.image.classList.add("there"));
    this.image.addEventListener("error", () => this.image.classList.remove("there"));
    this.initial.setAttribute("aria-hidden", "true");
    const badge = make("span", "badge", make("span", "dot"), "Live");
    this.link.append(make("div", "card-art", this.initial, this.image, badge, this.size, this.watching), this.title, this.facts);
    this.item.append(this.link);
  }

  show(stream: Stream): void {
    const title = stream.title || stream.name;
    const address = `/player/${encodeURIComponent(stream.name)}`;
    if (this.link.getAttribute("href") !== address) this.link.href = address;
    this.item.dataset["stream"] = stream.name;
    this.item.dataset["tone"] = String(tone(stream.name));
    setText(this.title, title);
    setText(this.initial, [...title.trim()][0]?.toUpperCase() ?? "");
    setText(this.size, pictureSize(stream.tracks));
    this.size.hidden = this.size.textContent === "";
    setText(this.count, viewers(stream.viewer_count));
    this.watching.hidden = stream.viewer_count === 0;
    const started = stream.started_at === null ? "" : since(stream.started_at, serverNow());
    setText(this.facts, [stream.category, started].filter(Boolean).join(" · "));
    const art = stream.thumbnail_url ?? "";
    const words = `A moment ago in ${title}`;
    if (this.image.alt !== words) this.image.alt = words;
    if (art === "" && this.image.hasAttribute("src")) {
      this.image.removeAttribute("src");
      this.image.classList.remove("there");
    }
    if (art !== "" && this.image.getAttribute("src") !== art) this.image.src = art;
  }
}

/** One of six quiet colours for a stream that has no picture yet, always the same one. */
function tone(name: string): number {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  return sum % 6;
}

export class Cards {
  private readonly cards = new Map<string, Card>();

  constructor(private readonly list: HTMLElement) {}

  show(streams: Stream[]): void {
    const kept = new Set(streams.map((stream) => stream.id));
    for (const [id, card] of this.cards) {
      if (kept.has(id)) continue;
      card.item.remove();
      this.cards.delete(id);
    }
    streams.forEach((stream, place) => {
      const card = this.cards.get(stream.id) ?? new Card();
      this.cards.set(stream.id, card);
      card.show(stream);
      if (this.list.children[place] !== card.item) this.list.insertBefore(card.item, this.list.children[place] ?? null);
    });
  }
}
