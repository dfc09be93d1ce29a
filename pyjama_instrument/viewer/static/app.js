// Starts the page: connection, overview, panel, and the clock.

import { attr, byId, show, text } from "./dom.js";
import { panel } from "./detail.js";
import { connect } from "./live.js";
import { draw } from "./overview.js";
import { setServerTime, tick } from "./time.js";

const STATES = { live: "live", polling: "every 2 s", gone: "server gone" };

const details = panel();

connect({
  onView(view) {
    setServerTime(view.now);
    draw(view);
    details.refresh();
  },
  onState(state) {
    attr(byId("link"), "data-state", state);
    text(byId("link"), STATES[state]);
    show(byId("gone"), state === "gone");
    document.body.classList.toggle("stale", state === "gone");
  },
});

setInterval(tick, 1000);
