// Event records as a strip: lanes of drafters above, verification below, time from left to right; several runs one under
// the other on one axis. Colours are custom properties of page.css: --by-0 … --by-5 for drafters, --hit, --miss, --block
// and the usual ones.

import { layOut, PALETTE, Picture } from "./picture.js";
import { firstAfter, SessionRecord } from "./record.js";
import { says } from "./words.js";

const STEP_PIXELS = 84; // of a usual step, before anybody zooms
const STEPS_TO_LEARN = 12; // after which the scale stays
const FIRST_SCALE = 1500, MAX_SCALE = 2e5; // pixels per second
const MAX_PIXELS = 30e6; // a browser lays out nothing wider
const ZOOM = 1.6;
const KEYS = "Left and right go from event to event, up and down from lane to lane; plus and minus zoom, 0 shows all.";
const LEGEND = [
  ["●", "hit", "hit: guessed, verified, accepted"],
  ["×", "miss", "miss: verified, not accepted"],
  ["○", "late", "right, but the target had said it by then"],
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

  /** One run from now on, of which nothing is known yet. */
  clear() {
    this.runs = [{ record: new SessionRecord(), text: this.text }];
    this.scale = FIRST_SCALE;
    this.zoomed = false;
    this.following = true;
    this.#show(null);
    this.#later();
  }

  /** Whole records, from their beginning: [{title, note, record, text}, …]. */
  render(runs) {
    this.runs = runs;
    this.following = false;
    const usual = Math.max(...runs.map(({ record }) => record.usualStep() ?? 0));
    this.#zoomTo(usual ? STEP_PIXELS / usual : 0);
    this.scroller.scrollLeft = 0;
  }

  add(events) {
    for (const event of events) this.record.add(event);
    const steps = this.record.steps.length;
    if (!this.zoomed && steps && steps < STEPS_TO_LEARN) {
      this.scale = Math.min(MAX_SCALE, STEP_PIXELS / Math.max(this.record.usualStep(), 1e-4));
    }
    this.#later();
  }

  /** Of the first run. */
  get record() {
    return this.runs[0].record;
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
    const legend = LEGEND.map(([face, name, meaning]) => {
      const mark = make("i", { className: `mark-${name}`, ariaHidden: "true" }, face);
      return make("span", { className: "strip-key" }, mark, meaning);
    });
    const button = (face, label, press) => {
      const made = make("button", { type: "button", ariaLabel: label }, face);
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
    this.canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    for (const kind of ["beforeprint", "afterprint"]) addEventListener(kind, () => this.#print(kind === "beforeprint"));
  }

  // -- what is seen --------------------------------------------------------------------------------------------------

  get #end() {
    return Math.max(...this.runs.map(({ record }) => record.end));
  }

  /** Pixels per second, 0 for the whole record; what is at `x`, or in the middle, stays there. */
  #zoomTo(scale, x = this.scroller.clientWidth / 2) {
    const width = this.scroller.clientWidth, seconds = Math.max(this.#end, 1e-3);
    const there = (this.scroller.scrollLeft + x) / this.scale;
    this.zoomed = true;
    this.scale = Math.max((width - 8) / seconds, Math.min(scale, MAX_SCALE, MAX_PIXELS / seconds));
    this.#layOut();
    if (!this.following) this.scroller.scrollLeft = there * this.scale - x;
    this.#later();
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.following = false;
    this.#zoomTo(this.scale * Math.exp(-event.deltaY / 300), event.offsetX);
  }

  /** On paper it is light, whatever the screen is. */
  #print(paper) {
    document.documentElement.classList.toggle("paper", paper);
    this.#draw();
  }

  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#draw();
    });
  }

  #draw() {
    this.#layOut();
    const { layout, slotOf, scale, scroller } = this;
    const view = { layout, slotOf, scale, from: scroller.scrollLeft / scale, width: scroller.clientWidth };
    this.picture = new Picture(this.canvas, view);
    this.picture.draw(this.active);
  }

  #layOut() {
    const { canvas, scroller } = this, records = this.runs.map(({ record }) => record);
    this.layout = layOut(this.runs);
    const width = scroller.clientWidth, { height } = this.layout;
    const [across, down] = [width, height].map((pixels) => Math.round(pixels * devicePixelRatio));
    this.track.style.width = `${Math.max(width, Math.ceil(this.#end * this.scale) + 8)}px`;
    if (canvas.width !== across || canvas.height !== down) {
      [canvas.width, canvas.height] = [across, down];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    if (this.following) scroller.scrollLeft = scroller.scrollWidth;
    const [steps, verified, accepted] = [(one) => one.steps.length, (one) => one.verified, (one) => one.accepted].map(
      (count) => records.reduce((sum, record) => sum + count(record), 0),
    );
    scroller.ariaLabel = `Timeline: ${steps} steps, ${verified} nodes verified, ${accepted} of them hits`;
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

  /** From the active item, or else from the last step or the first that is seen, to its neighbour or to the nearest one
   * of another lane. */
  #go(sideways, down) {
    const rows = this.layout.rows.filter(({ lane }) => lane.items.length);
    const from = this.active?.lane ? this.active : this.active?.growth ?? this.#first();
    if (!from) return;
    const row = rows.findIndex(({ lane }) => lane === from.lane), { items } = rows[inside(rows, row + down)].lane;
    const here = items === from.lane.items ? items.indexOf(from) : firstAfter(items, from.start);
    const item = items[inside(items, this.active ? here + sideways : here)];
    const left = item.start * this.scale - this.scroller.scrollLeft;
    if (left < 20 || left > this.scroller.clientWidth - STEP_PIXELS) {
      this.following = false;
      this.scroller.scrollLeft = item.start * this.scale - this.scroller.clientWidth / 2;
    }
    this.#show(item);
    this.spoken.textContent = this.#says(item).join(". ");
  }

  #first() {
    const { steps } = this.record;
    return this.following ? steps.at(-1) : steps[firstAfter(steps, this.scroller.scrollLeft / this.scale)];
  }

  /** A node, or else the item of its lane that is there. */
  #under(x, y) {
    const row = this.layout.rows.find(({ top, height }) => y >= top && y < top + height);
    if (!row) return null;
    const node = this.picture?.nodeAt(x, y);
    if (node) return node;
    const { items } = row.lane, at = (this.scroller.scrollLeft + x) / this.scale, item = items[firstAfter(items, at)];
    return item && (item.rooted ?? item.start) - 4 / this.scale <= at ? item : null;
  }

  #show(item) {
    if (item !== this.active) this.#later();
    this.active = item;
    this.tip.hidden = !item;
    if (!item) return;
    this.tip.replaceChildren(...this.#says(item).map((line) => make("div", {}, line)));
    const { start, end, lane } = item.growth ?? item;
    const middle = ((start + end) / 2) * this.scale - this.scroller.scrollLeft;
    const left = Math.min(this.scroller.clientWidth - this.tip.offsetWidth - 4, middle - this.tip.offsetWidth / 2);
    const { top, height } = this.layout.rows.find((row) => row.lane === lane);
    [this.tip.style.left, this.tip.style.top] = [`${Math.max(4, left)}px`, `${top + height + 2}px`];
  }

  #says(item) {
    const { lane } = item.growth ?? item;
    return says(item, this.layout.rows.find((row) => row.lane === lane).run.text);
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const inside = (items, index) => Math.max(0, Math.min(items.length - 1, index));
