// "/embed/{stream}": the player alone, for another site's iframe.

import "../../styles/embed.css";
import { setText } from "../dom";
import { openTheatre } from "../theatre";

openTheatre(({ stream }) => {
  const title = document.querySelector("title");
  if (title !== null && stream !== null) setText(title, `${stream.title || stream.name} · OxideCast`);
});
