// A session's event record as a strip: lanes of drafters above, verification below, time from left to right.
// Colours are custom properties of page.css: --by-0 … --by-5 for drafters, --hit, --miss, --block and the usual ones.

import { AXIS, heightOf, LANE, PALETTE, Picture } from "./picture.js";
import { firstAfter, SessionRecord, visible } from "./record.js";

const STEP_PIXELS = 84; // of a usual step, before anybody zooms
const STEPS_TO_LEARN = 12; // after which the scale stays
const FIRST_SCALE = 1500, MAX_SCALE = 2e5; // pixels per second
const MAX_PIXELS = 30e6; // a browser lays out nothing wider
const ZOOM = 1.6;
const MOST_NAMED = 10;
const KEYS = "Left and right go from event to event, up and down from lane to lane; plus and minus zoom, 0 shows all.";
const LEGEND = [
  ["●", "hit", "hit: guessed, verified, accepted"],
  ["×", "miss", "miss: verified, not accepted"],
  ["·", "rest", "not verified"],
  ["", "wait", "the verifier waits"],
];

export class Strip {
  /** Draws into `element`; `text(token_id)` is what a token reads, where that is known. */
  constructor(element, { text = () => undefined } = {}) {
    this.text = text;
    this.slots = new Map();
    this.#build(element);
    this.clear();
    new ResizeObserver(() => this.#later()).observe(this.scroller);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#later());
  }

  clear() {
    this.record = new SessionRecord();
    this.scale = FIRST_SCALE;
    this.zoomed = false;
    this.following = true;
    this.active = null;
    this.#show(null);
    this.#later();
  }

  /** A whole record at once: {events, texts: {token_id: text}}. */
  render({ events, texts = {} }) {
    this.clear();
    this.text = (id) => texts[id];
    this.add(events);
    this.#zoomTo(0);
  }

  add(events) {
    for (const event of events) this.record.add(event);
    const steps = this.record.steps.length;
    if (!this.zoomed && steps && steps < STEPS_TO_LEARN) {
      this.scale = Math.min(MAX_SCALE, STEP_PIXELS / Math.max(this.record.usualStep(), 1e-4));
    }
    this.#later();
  }

  /** A drafter's place in the palette; the first to be asked for has the first. */
  slotOf = (name) => {
    if (!this.slots.has(name)) this.slots.set(name, this.slots.size % PALETTE);
    return this.slots.get(name);
  };

  // -- elements ------------------------------------------------------------------------------------------------------

  #build(element) {
    this.canvas = make("canvas");
    this.track = make("div", { className: "strip-track" }, this.canvas);
    this.tip = make("div", { className: "strip-tip", hidden: true, ariaHidden: "true" });
    this.spoken = make("p", { className: "unseen", ariaLive: "polite" });
    const help = make("p", { className: "unseen", id: `${element.id}-help` }, KEYS);
    this.scroller = make("div", { className: "strip-scroll", tabIndex: 0 }, this.track);
    this.scroller.ariaRoleDescription = "timeline";
    this.scroller.setAttribute("role", "application");
    this.scroller.setAttribute("aria-describedby", help.id);
    element.classList.add("strip");
    element.replaceChildren(this.scroller, this.tip, this.#foot(), this.spoken, help);
    this.#listen();
  }

  #foot() {
    const legend = LEGEND.map(([face, name, says]) => {
      const mark = make("i", { className: `mark-${name}`, ariaHidden: "true" }, face);
      return make("span", { className: "strip-key" }, mark, says);
    });
    const button = (face, says, press) => {
      const made = make("button", { type: "button", ariaLabel: says }, face);
      made.addEventListener("click", press);
      return made;
    };
    const zoom = [
      button("−", "zoom out", () => this.#zoomTo(this.scale / ZOOM)),
      button("+", "zoom in", () => this.#zoomTo(this.scale * ZOOM)),
      button("all", "show all", () => this.#zoomTo(0)),
    ];
    const keys = make("div", { className: "strip-keys" }, ...legend);
    return make("div", { className: "strip-foot" }, keys, make("div", { className: "strip-zoom" }, ...zoom));
  }

  #listen() {
    this.scroller.addEventListener("scroll", () => {
      const { scrollLeft, clientWidth, scrollWidth } = this.scroller;
      this.following = scrollLeft + clientWidth >= scrollWidth - 8;
      this.#later();
    });
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("blur", () => this.#show(null));
    for (const kind of ["pointermove", "pointerdown"]) {
      this.canvas.addEventListener(kind, (event) => this.#show(this.#under(event.offsetX, event.offsetY)));
    }
    this.canvas.addEventListener("pointerleave", () => this.#show(null));
  }

  // -- what is seen --------------------------------------------------------------------------------------------------

  /** Pixels per second, 0 for the whole record; what is in the middle stays there. */
  #zoomTo(scale) {
    const width = this.scroller.clientWidth, seconds = Math.max(this.record.end, 1e-3);
    const middle = (this.scroller.scrollLeft + width / 2) / this.scale;
    this.zoomed = true;
    this.scale = Math.max((width - 8) / seconds, Math.min(scale, MAX_SCALE, MAX_PIXELS / seconds));
    this.#layOut();
    if (!this.following) this.scroller.scrollLeft = middle * this.scale - width / 2;
    this.#later();
  }

  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#layOut();
      const { record, text, slotOf, scale, scroller } = this;
      const view = { record, text, slotOf, scale, from: scroller.scrollLeft / scale, width: scroller.clientWidth };
      new Picture(this.canvas, view).draw(this.active);
    });
  }

  #layOut() {
    const { canvas, record, scroller } = this;
    const width = scroller.clientWidth, height = heightOf(record.lanes.size);
    const [across, down] = [width, height].map((pixels) => Math.round(pixels * devicePixelRatio));
    this.track.style.width = `${Math.max(width, Math.ceil(record.end * this.scale) + 8)}px`;
    if (canvas.width !== across || canvas.height !== down) {
      [canvas.width, canvas.height] = [across, down];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    if (this.following) scroller.scrollLeft = scroller.scrollWidth;
    const { steps, verified, accepted } = record;
    scroller.ariaLabel = `Timeline: ${steps.length} steps, ${verified} nodes verified, ${accepted} of them hits`;
  }

  // -- what is pointed at --------------------------------------------------------------------------------------------

  #key(event) {
    const { key } = event;
    const sideways = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[key];
    const down = { ArrowUp: -1, ArrowDown: 1 }[key];
    const zoom = { "+": this.scale * ZOOM, "=": this.scale * ZOOM, "-": this.scale / ZOOM, 0: 0 }[key];
    if (key === "Escape") this.#show(null);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (zoom !== undefined) this.#zoomTo(zoom);
    else if (sideways !== undefined || down !== undefined) this.#go(sideways ?? 0, down ?? 0);
    else return;
    event.preventDefault();
  }

  /** From the active item, or else from the last step, to its neighbour or to the nearest one of another lane. */
  #go(sideways, down) {
    const { lanes, steps } = this.record;
    const rows = [...[...lanes.values()].map((lane) => lane.items), steps];
    const from = this.active ?? steps.at(-1);
    if (!from) return;
    const row = rows.indexOf(from.lane?.items ?? steps), items = rows[within(rows, row + down)];
    const here = items === rows[row] ? items.indexOf(from) : firstAfter(items, from.start);
    const item = items[within(items, this.active ? here + sideways : here)];
    const left = item.start * this.scale - this.scroller.scrollLeft;
    if (left < 20 || left > this.scroller.clientWidth - STEP_PIXELS) {
      this.following = false;
      this.scroller.scrollLeft = item.start * this.scale - this.scroller.clientWidth / 2;
    }
    this.#show(item);
    this.spoken.textContent = this.#says(item).join(". ");
  }

  #under(x, y) {
    const { lanes, steps } = this.record;
    if (y < AXIS) return null;
    const items = [...lanes.values()][Math.floor((y - AXIS) / LANE)]?.items ?? steps;
    const at = (this.scroller.scrollLeft + x) / this.scale, item = items[firstAfter(items, at)];
    return item && (item.rooted ?? item.start) - 4 / this.scale <= at ? item : null;
  }

  #show(item) {
    if (item !== this.active) this.#later();
    this.active = item;
    this.tip.hidden = !item;
    if (!item) return;
    this.tip.replaceChildren(...this.#says(item).map((line) => make("div", {}, line)));
    const lanes = [...this.record.lanes.keys()];
    const middle = ((item.start + item.end) / 2) * this.scale - this.scroller.scrollLeft;
    const left = Math.min(this.scroller.clientWidth - this.tip.offsetWidth - 4, middle - this.tip.offsetWidth / 2);
    const top = item.lane ? AXIS + (lanes.indexOf(item.lane.name) + 1) * LANE : heightOf(lanes.length) + 4;
    [this.tip.style.left, this.tip.style.top] = [`${Math.max(4, left)}px`, `${top}px`];
  }

  // -- in words ------------------------------------------------------------------------------------------------------

  #says(item) {
    const [from, to] = [item.start, item.end].map(milliseconds);
    if (!item.lane) {
      const waited = milliseconds(item.start - item.rooted);
      const head = `step from ${from} to ${to} ms, ${counted(item.rows, "row")}, waited ${waited} ms`;
      const said = `says: ${item.tokens.map((token) => this.#word(token)).join("  ")}`;
      return [head, ...this.#named("hits", item.hits), ...this.#named("misses", item.misses), said];
    }
    const head = `${item.lane.name}: ${counted(item.nodes.length, "node")} at ${to} ms, grown since ${from} ms`;
    const fates = [["hits", "hit"], ["misses", "miss"], ["not verified", "rest"]];
    const lists = fates.flatMap(([name, fate]) => this.#named(name, item.nodes.filter((node) => node.fate === fate)));
    return [head, ...lists];
  }

  #named(name, nodes) {
    if (!nodes.length) return [];
    const words = nodes.slice(0, MOST_NAMED).map((node) => this.#word(node.token));
    if (nodes.length > MOST_NAMED) words.push(`and ${nodes.length - MOST_NAMED} more`);
    return [`${name}: ${words.join("  ")}`];
  }

  #word(token) {
    const text = this.text(token);
    return text === undefined ? `#${token}` : `“${visible(text)}”`;
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const within = (items, index) => Math.max(0, Math.min(items.length - 1, index));
const milliseconds = (seconds) => (seconds * 1000).toFixed(1);
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
