"""A page left open for a day, compressed: it neither grows nor lags. By default a part of a day shows the slope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.scale import full
from tests.viewer.test_pages import Shop

if TYPE_CHECKING:
    from playwright.sync_api import Page

UPDATES = full(100_000, 4000)
HEAP_BYTES = 10 * 2**20

# In place of the browser's EventSource: gives the page the messages that a busy day would bring, one after the other.
# Each changes a few rows, brings new ones under names never seen before, and takes others away.
STREAM = """
window.EventSource = class {
  constructor(url) {
    window.stream = this;
    this.readyState = 1;
    const whole = fetch(url.replace("api/stream", "api/view")).then((answer) => answer.json());
    whole.then((view) => this.begin(view), () => {});
  }
  close() {}
  begin(view) {
    this.view = view;
    this.keys = {};
    for (const [name, rows] of Object.entries(view))
      if (Array.isArray(rows) && rows.length && rows[0].key !== undefined && name !== "totals" && name !== "notes")
        this.keys[name] = { row: rows[0], keys: rows.map((row) => row.key) };
    this.onmessage({ data: JSON.stringify(view) });
    window.begun = true;
  }
  step(number) {
    const rows = {};
    for (const [name, { row, keys }] of Object.entries(this.keys)) {
      const key = `${name} ${number}`;
      const set = [[keys[0], { calls: String(number), seen: Date.now(), sparkline: "0123456789".repeat(3) }]];
      set.push([key, { ...row, key, agent: `agent ${number}`, at: Date.now(), session: `session ${number}` }]);
      keys.unshift(key);
      if (keys.length > 20) keys.pop();
      rows[name] = { set, order: keys };
    }
    const patch = { set: { title: `${number} running` }, rows };
    this.onmessage({ data: JSON.stringify({ now: Date.now(), patch }) });
  }
};
window.run = async (from, to) => {
  for (let number = from; number < to; number++) {
    stream.step(number);
    if (number % 50 === 0) await new Promise((done) => setTimeout(done));
  }
};
"""


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.dashboard.stop()


class Weight:
    """What a page weighs, once the garbage has been taken out."""

    def __init__(self, page: Page) -> None:
        session = page.context.new_cdp_session(page)
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
        self.heap = int(session.send("Runtime.getHeapUsage")["usedSize"])
        counters = session.send("Memory.getDOMCounters")
        self.nodes, self.listeners = int(counters["nodes"]), int(counters["jsEventListeners"])
        session.detach()

    def has_grown(self, before: Weight, nodes: int) -> bool:
        """Whether it weighs more than ``before``, beyond what comes and goes."""
        return not (
            self.nodes - before.nodes < nodes
            and self.listeners - before.listeners < 50
            and self.heap - before.heap < HEAP_BYTES
        )


def settled(page: Page, before: Weight, nodes: int) -> Weight:
    """The page's weight once what it has just let go is collected; a leak stays for good."""
    for _ in range(20):
        if not (weight := Weight(page)).has_grown(before, nodes):
            break
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    return weight


@pytest.mark.parametrize(
    ("address", "updates"), [("#/", UPDATES), ("#/tools", UPDATES // 2), ("#/activity", UPDATES // 2)]
)
def test_a_page_that_is_open_all_day_does_not_grow(page: Page, shop: Shop, address: str, updates: int) -> None:
    page.add_init_script(STREAM)
    page.goto(f"{shop.url}{address}")
    page.wait_for_function("() => window.begun")
    page.evaluate("run(0, 1000)")
    before = Weight(page)
    for start in range(1000, updates, 1000):
        page.evaluate("([from, to]) => run(from, to)", [start, start + 1000])
    after = settled(page, before, nodes=200)
    assert not after.has_grown(before, nodes=200), (vars(before), vars(after))


def test_moving_between_pages_all_day_leaves_nothing_behind(page: Page, shop: Shop) -> None:
    walk = """async (times) => {
        for (let at = 0; at < times; at++)
            for (const hash of ["#/tools", "#/activity", "#/tools/parse", "#/"]) {
                location.hash = hash;
                await new Promise((done) => setTimeout(done, 5));
            }
    }"""
    page.add_init_script(STREAM)
    page.goto(shop.url)
    page.wait_for_function("() => window.begun")
    page.evaluate(walk, 10)
    before = Weight(page)
    page.evaluate(walk, 50)
    after = settled(page, before, nodes=2000)
    assert not after.has_grown(before, nodes=2000), (vars(before), vars(after))
