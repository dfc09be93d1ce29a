// Shows the page that the address names. `#/tools/read?sort=-p95` is the page "tools", the params ["read"] and a query.
//
// A page module exports mount(parent, params, query, api) → {update(view), unmount()}. `api.setQuery({q: "x"})` changes
// `query` and the address without adding to the browser's history; `api.go("#/…")` opens another page.

function parseHash(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [page, ...rest] = path.split("/");
  try {
    return { page: page || "overview", params: rest.length ? [decodeURIComponent(rest.join("/"))] : [], query: new URLSearchParams(query) };
  } catch {
    return { page: "missing", params: [], query: new URLSearchParams() };
  }
}

const MAX_PARAMS = { overview: 0, tools: 1, activity: 0, run: 1, missing: 0 };

// `pages` by name: {mount, parent, watch(params, query)}. `onPage(name)` is called when another page is shown, and
// `onWatch(search, fresh)` when a page needs another view.
export function router(node, pages, { onPage, onWatch }) {
  let route = null;
  let page = null;
  const scrollPositions = new Map(); // by address, restored when the browser goes back
  let pendingPosition = null;

  function navigate() {
    if (/^#\/session\/./.test(location.hash)) return location.replace(location.hash.replace("session", "run")); // the old address
    const next = parseHash(location.hash);
    if (!Object.hasOwn(pages, next.page) || next.params.length > MAX_PARAMS[next.page] || (next.page === "run" && !next.params[0])) next.page = "missing";
    const before = route;
    route = { ...next, hash: location.hash };
    if (page) page.unmount();
    node.replaceChildren();
    page = pages[next.page].mount(node, next.params, next.query, api);
    onPage(next.page);
    scrollTo(0, 0);
    if (before) pendingPosition = { from: before.hash, top: scrollPositions.get(location.hash) || 0, same: before.page === route.page };
    onWatch(pages[next.page].watch(next.params, next.query), true);
  }

  // Called after the first view is shown: restores the scroll position, and focuses the link that was opened.
  function restorePosition() {
    const { from, top, same } = pendingPosition;
    pendingPosition = null;
    scrollTo(0, top);
    const opener = [...node.querySelectorAll("a[data-nav]")].find((link) => link.getAttribute("href") === from);
    (opener || (same && node.querySelector(".choice a[aria-current]")) || document.getElementById("main")).focus({ preventScroll: true });
  }

  // Whether the address has changed but its event has not arrived yet.
  const isLeaving = () => location.hash !== route.hash;

  const api = {
    setQuery(values) {
      if (isLeaving()) return;
      for (const [name, value] of Object.entries(values)) {
        if (value) route.query.set(name, value);
        else route.query.delete(name);
      }
      const query = route.query.toString();
      const path = location.hash.split("?")[0] || "#/";
      history.replaceState(null, "", query ? `${path}?${query}` : path);
      route.hash = location.hash;
      onWatch(pages[route.page].watch(route.params, route.query));
    },
    go(hash) {
      location.hash = hash;
    },
  };

  addEventListener("hashchange", navigate);
  addEventListener("scroll", () => {
    if (pendingPosition || isLeaving()) return;
    scrollPositions.delete(location.hash);
    scrollPositions.set(location.hash, scrollY);
    if (scrollPositions.size > 50) scrollPositions.delete(scrollPositions.keys().next().value);
  }, { passive: true });
  navigate();
  return {
    update(view) {
      page.update(view);
      if (pendingPosition) restorePosition();
    },
    up() {
      if (route.page !== "overview" || route.hash.includes("?")) api.go(pages[route.page].parent(route.params));
    },
    get page() {
      return route.page;
    },
  };
}
