// The live list on a page: asks every few seconds, and says so when there is nothing or nobody answers.

import { liveStreams } from "./api";
import { Cards } from "./cards";
import { find, repeat, setText } from "./dom";

const REFRESH_SECONDS = 4;

export interface Listing {
  /** How many cards the page has room for. */
  limit: number;
  /** Told the true total after each answer. */
  counted(total: number): void;
}

export function showListing(listing: Listing): { refresh(): Promise<void> } {
  const cards = new Cards(find("cards"));
  const empty = find("empty");
  let shownOnce = false;

  const refresh = async (): Promise<void> => {
    try {
      const { items, total } = await liveStreams(1, listing.limit);
      shownOnce = true;
      cards.show(items);
      setText(find("count"), total === 0 ? "" : total === 1 ? "1 stream" : `${total} streams`);
      empty.hidden = total > 0;
      setText(find("empty-title"), "Nothing is live right now");
      setText(find("empty-text"), "A stream shows up here the moment it starts.");
      listing.counted(total);
    } catch {
      // What is on screen stays: it is most likely still true.
      setText(find("count"), "The server does not answer. Trying again.");
      empty.hidden = shownOnce;
      setText(find("empty-title"), "The server does not answer");
      setText(find("empty-text"), "This page keeps trying.");
    }
  };
  repeat(refresh, REFRESH_SECONDS);
  return { refresh };
}
