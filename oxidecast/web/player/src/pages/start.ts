// "/": what is live, and how to be live.

import "../../styles/pages.css";
import { ingestAddress } from "../api";
import { copyButtons, find } from "../dom";
import { showListing } from "../listing";

const ROOM = 6;

showListing({
  limit: ROOM,
  counted: (total) => {
    find("all").hidden = total <= ROOM;
  },
});

function howToPublish(server: string): void {
  find<HTMLInputElement>("server").value = server;
  find<HTMLTextAreaElement>("ffmpeg").value =
    `ffmpeg -re -i video.mp4 -c:v libx264 -preset veryfast -g 60 -pix_fmt yuv420p -c:a aac -f flv ${server}/KEY`;
}

howToPublish(`rtmp://${location.hostname}:1935/live`);
ingestAddress().then(howToPublish, () => undefined);
copyButtons();
