// Relative times that tick. They use the server's clock, since the browser may run on another machine.

let clockSkew = 0;

export function setServerTime(now) {
  clockSkew = now - Date.now();
}

function formatElapsed(ms, exact) {
  const seconds = Math.max(0, Math.floor((Date.now() + clockSkew - ms) / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const two = (n) => String(n).padStart(2, "0");
  if (minutes < 1) return `${seconds} s`;
  if (hours < 1) return exact && minutes < 10 ? `${minutes} min ${two(seconds % 60)} s` : `${minutes} min`;
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d`;
}

function update(node) {
  const ago = node.dataset.mode === "ago";
  const value = formatElapsed(Number(node.dataset.at), !ago) + (ago ? " ago" : "");
  if (node.textContent !== value) node.textContent = value;
}

// Shows how long ago something was (`ago`), or how long it has lasted (`for`); the exact time on hover.
export function relativeTime(node, ms, mode) {
  if (!ms) {
    delete node.dataset.at;
    node.textContent = "";
    node.removeAttribute("title");
    return;
  }
  if (node.dataset.at !== String(ms)) {
    node.dataset.at = ms;
    node.dataset.mode = mode;
    node.title = (mode === "ago" ? "" : "since ") + new Date(ms).toLocaleString();
  }
  update(node);
}

export function updateRelativeTimes() {
  for (const node of document.querySelectorAll("[data-at]")) update(node);
}

// Milliseconds since the epoch by the server's clock.
export const serverNow = () => Date.now() + clockSkew;
