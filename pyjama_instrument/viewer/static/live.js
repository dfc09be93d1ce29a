// Keeps the page current: a stream of changes, and a poll every two seconds while there is no stream.
//
// A hidden tab gives its stream back, since browsers allow only a few connections to one server; it goes on
// with a slow poll, so that the tab's title stays true.

const POLL = 2000;
const HIDDEN_POLL = 10000;

export function connect({ onView, onState }) {
  let source = null;
  let streaming = false;
  let failures = 0;
  let asking = false;

  function open() {
    if (source || document.hidden) return;
    source = new EventSource("/api/stream");
    source.onmessage = (event) => {
      streaming = true;
      failures = 0;
      onView(JSON.parse(event.data));
      onState("live");
    };
    source.onerror = () => {
      streaming = false;
      // The browser tries again by itself unless it was refused for good.
      if (source.readyState === EventSource.CLOSED) close();
      poll();
    };
  }

  function close() {
    if (source) source.close();
    source = null;
    streaming = false;
  }

  async function poll() {
    if (asking || streaming) return;
    asking = true;
    try {
      const answer = await fetch("/api/view");
      if (!answer.ok) throw new Error(String(answer.status));
      const view = await answer.json();
      failures = 0;
      if (!streaming) {
        onView(view);
        onState("polling");
      }
    } catch {
      failures += 1;
      // One failure may be a hiccup; the second is news.
      if (failures > 1 && !streaming) onState("gone");
    } finally {
      asking = false;
    }
  }

  let lastPoll = 0;
  setInterval(() => {
    if (!document.hidden) open();
    if (streaming || Date.now() - lastPoll < (document.hidden ? HIDDEN_POLL : POLL) - 50) return;
    lastPoll = Date.now();
    poll();
  }, POLL);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}
