// Keeps the page current: a stream of changes, and a poll every two seconds while there is no stream.
//
// A hidden tab gives its stream back, since browsers allow only a few connections to one server; it goes on
// with a slow poll, so that the tab's title stays true.

const POLL = 2000;
const HIDDEN_POLL = 10000;

// The view after a message of the stream: a whole view, or what has changed. Rows that have not are the same objects.
function applyPatch(view, message) {
  if (!message.patch) return message;
  const { set, rows } = message.patch;
  const next = { ...view, ...set, now: message.now };
  for (const [name, change] of Object.entries(rows)) {
    const byKey = new Map(view[name].map((row) => [row.key, row]));
    for (const [key, fields] of change.set) byKey.set(key, { ...byKey.get(key), ...fields });
    next[name] = (change.order || view[name].map((row) => row.key)).map((key) => byKey.get(key));
  }
  return next;
}

export function connect({ onView, onState }) {
  let search = null; // what is watched, such as "?page=tools"
  let view = null; // the latest of it
  let source = null;
  let streaming = false;
  let failures = 0;
  let polling = null;
  let lastPoll = 0;

  function open() {
    if (source || document.hidden || search === null) return;
    const opened = new EventSource(`api/stream${search}`);
    source = opened;
    opened.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (source !== opened || (message.patch && !streaming)) return;
      streaming = true;
      failures = 0;
      view = applyPatch(view, message);
      onView(view);
      onState("live");
    };
    opened.onerror = () => {
      if (source !== opened) return;
      streaming = false;
      // The browser tries again by itself unless it was refused for good.
      if (opened.readyState === EventSource.CLOSED) close();
      poll();
    };
  }

  function close() {
    if (source) source.close();
    source = null;
    streaming = false;
  }

  async function poll() {
    if (polling === search || streaming || search === null) return;
    const polledQuery = (polling = search);
    lastPoll = Date.now();
    try {
      const answer = await fetch(`api/view${polledQuery}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const polled = await answer.json();
      failures = 0;
      if (!streaming && polledQuery === search) {
        view = polled;
        onView(view);
        onState("polling");
      }
    } catch {
      failures += 1;
      // One failure may be a hiccup; the second is news.
      if (failures > 1 && !streaming) onState("gone");
    } finally {
      if (polling === polledQuery) polling = null;
    }
  }

  setInterval(() => {
    open();
    if (!streaming && Date.now() - lastPoll >= (document.hidden ? HIDDEN_POLL : POLL) - 50) poll();
  }, POLL);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  return {
    // `fresh`: whoever watches now has not seen anything yet.
    watch(next, fresh) {
      if (next === search) {
        if (fresh && view) onView(view);
        return;
      }
      search = next;
      view = null;
      close();
      if (document.hidden) poll();
      else open();
    },
  };
}
