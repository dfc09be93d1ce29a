// Creates and updates nodes. Text is only ever set as text: this page never parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// The setters change the document only if the value differs, so that selections and hovers are kept.
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function attr(node, name, value) {
  if (value === null || value === undefined || value === "") node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// Makes the children of `parent` match `items`. Nodes are reused by key, never rebuilt. `make()` returns
// {node, update(item)}.
const lists = new WeakMap();

export function keyed(parent, items, make) {
  const old = lists.get(parent) || new Map();
  const now = new Map();
  for (const item of items) {
    const entry = old.get(item.key) || make(item);
    const content = JSON.stringify(item);
    if (entry.content !== content) {
      entry.content = content;
      entry.update(item);
    }
    now.set(item.key, entry);
  }
  for (const [key, entry] of old) if (!now.has(key)) entry.node.remove();
  let place = parent.firstChild;
  for (const { node } of now.values()) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  lists.set(parent, now);
}
