// Keeps the page current: by a stream of changes, or by a poll every two seconds if there is no stream.
//
// A hidden tab closes its stream, since browsers allow only a few connections to one server. It polls slowly instead,
// so that the tab's title stays current.

const POLL = 2000;
const HIDDEN_POLL = 10000;

// The view after a message of the stream, which is a whole view or a patch. Unchanged rows stay the same objects.
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
  let search = null; // the query of the view, such as "?page=tools"
  let view = null; // the latest one
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
      // The browser reconnects by itself unless the server refused the stream.
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
      // A single failure may be an accident.
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
    // `fresh`: the page is new and has not received a view yet.
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
