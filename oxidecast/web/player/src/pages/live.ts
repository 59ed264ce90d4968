// "/player": everything that is live.

import "../../styles/pages.css";
import { find } from "../dom";
import { showListing, type Listing } from "../listing";

const STEP = 48;
/** The most that one answer of the API lists. */
const MOST = 100;

const listing: Listing = {
  limit: STEP,
  counted: (total) => {
    find("further").hidden = total <= listing.limit || listing.limit >= MOST;
  },
};
const { refresh } = showListing(listing);
find("further").addEventListener("click", () => {
  listing.limit = Math.min(MOST, listing.limit + STEP);
  void refresh();
});
