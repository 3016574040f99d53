// A session's event record as a picture: lanes of drafters above, verification below, time from left to right.
//
// An arrival is {type: "arrival", at, drafter, nodes: [[id, parent, token, position, log_score], …], idle, busy}; a step
// is {type: "step", rooted, launched, decided, verified: [id, …], accepted: [id, …], token_ids, position}. Times are
// seconds since the session was opened. Colours are custom properties of page.css: --by-0 … --by-5, --hit, --miss, …

const PALETTE = 6;
const AXIS = 20, LABEL = 17, MARKS = 40, BAR = 6, GAP = 9, BLOCK = 46, WORDS = 18;
const LANE = LABEL + MARKS + BAR + GAP;
const PITCH = 8; // pixels from mark to mark
const STEP_PIXELS = 84; // of a usual step, before anybody zooms
const MAX_PIXELS = 30e6; // a browser lays out nothing wider
const TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
const KEY = [["●", "hit", "hit: guessed, verified, accepted"], ["×", "miss", "miss: verified, not accepted"],
             ["·", "rest", "not verified"], ["", "wait", "the verifier waits"]];

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
    this.lanes = new Map();
    this.steps = [];
    this.nodes = new Map();
    this.end = 0;
    this.scale = 1500; // pixels per second
    this.zoomed = false;
    this.following = true;
    this.active = null;
    this.totals = { emitted: 0, verified: 0, accepted: 0 };
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
    for (const event of events) {
      if (event.type === "arrival") this.#arrival(event);
      else if (event.type === "step") this.#step(event);
      else throw new Error(`type = ${event.type}: expected arrival or step`);
    }
    if (!this.zoomed && this.steps.length && this.steps.length < 12) {
      const usual = this.steps.map((step) => step.end - step.start).sort((a, b) => a - b)[this.steps.length >> 1];
      this.scale = Math.min(2e5, STEP_PIXELS / Math.max(usual, 1e-4));
    }
    this.#later();
  }

  /** A drafter's place in the palette; the first to be asked for has the first. */
  slotOf = (name) => {
    if (!this.slots.has(name)) this.slots.set(name, this.slots.size % PALETTE);
    return this.slots.get(name);
  };

  /** Of each drafter in the record: nodes verified and nodes accepted. */
  acceptance() {
    return [...this.lanes.values()].map(({ name, verified, accepted }) => ({ name, verified, accepted }));
  }

  // -- the record ----------------------------------------------------------------------------------------------------

  #arrival({ at, drafter, nodes, idle, busy }) {
    let lane = this.lanes.get(drafter);
    if (!lane) {
      lane = { name: drafter, slot: this.slotOf(drafter), items: [], verified: 0, accepted: 0 };
      this.lanes.set(drafter, lane);
    }
    const drafted = nodes.map(([id, , token, position, score]) => {
      const node = this.nodes.get(id) ?? { id, token, position, score, fate: "rest", drafters: [] };
      this.nodes.set(id, node);
      if (!node.drafters.includes(drafter)) node.drafters.push(drafter);
      return node;
    });
    lane.items.push({ lane, start: at - busy, idleFrom: at - busy - idle, end: at, nodes: drafted });
    this.end = Math.max(this.end, at);
  }

  #step({ rooted, launched, decided, verified, accepted, token_ids: tokens, position }) {
    const known = (ids) => ids.map((id) => this.nodes.get(id)).filter((node) => node !== undefined);
    const [rows, hits] = [known(verified), known(accepted)];
    for (const node of rows) node.fate = "miss";
    for (const node of hits) node.fate = "hit";
    for (const node of rows) for (const name of node.drafters) this.lanes.get(name).verified += 1;
    for (const node of hits) for (const name of node.drafters) this.lanes.get(name).accepted += 1;
    const [misses, count] = [rows.filter((node) => node.fate === "miss"), 1 + verified.length];
    this.steps.push({ rooted, start: launched, end: decided, hits, misses, rows: count, tokens, position });
    this.totals.emitted += tokens.length;
    this.totals.verified += verified.length;
    this.totals.accepted += accepted.length;
    this.end = Math.max(this.end, decided);
  }

  // -- elements ------------------------------------------------------------------------------------------------------

  #build(element) {
    this.canvas = make("canvas");
    this.track = make("div", "strip-track", [this.canvas]);
    this.scroller = make("div", "strip-scroll", [this.track]);
    this.tip = make("div", "strip-tip");
    this.spoken = make("p", "unseen");
    this.spoken.setAttribute("aria-live", "polite");
    const help = make("p", "unseen", ["Left and right go through what happened, up and down from lane to lane, plus and minus zoom, 0 shows all."]);
    help.id = `strip-help-${Math.random().toString(36).slice(2)}`;
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute("role", "application");
    this.scroller.setAttribute("aria-roledescription", "timeline");
    this.scroller.setAttribute("aria-describedby", help.id);
    this.tip.hidden = true;
    this.tip.setAttribute("aria-hidden", "true");
    const key = KEY.map(([mark, name, says]) => make("span", "strip-key", [make("i", `mark-${name}`, [mark]), says]));
    const buttons = [["−", "zoom out", () => this.#zoomTo(this.scale / 1.6)], ["+", "zoom in", () => this.#zoomTo(this.scale * 1.6)],
                     ["all", "show all", () => this.#zoomTo(0)]].map(([face, says, press]) => {
      const button = make("button", "", [face]);
      button.type = "button";
      button.setAttribute("aria-label", says);
      button.addEventListener("click", press);
      return button;
    });
    const foot = make("div", "strip-foot", [make("div", "strip-keys", key), make("div", "strip-zoom", buttons)]);
    element.classList.add("strip");
    element.replaceChildren(this.scroller, this.tip, foot, this.spoken, help);
    this.scroller.addEventListener("scroll", () => this.#scrolled());
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("blur", () => this.#show(null));
    this.canvas.addEventListener("pointermove", (event) => this.#show(this.#under(event.offsetX, event.offsetY)));
    this.canvas.addEventListener("pointerleave", () => this.#show(null));
  }

  #scrolled() {
    const { scrollLeft, clientWidth, scrollWidth } = this.scroller;
    this.following = scrollLeft + clientWidth >= scrollWidth - 8;
    this.#later();
  }

  /** Pixels per second, 0 for the whole record; what is in the middle stays there. */
  #zoomTo(scale) {
    const width = this.scroller.clientWidth, whole = (width - 8) / Math.max(this.end, 1e-3);
    const middle = (this.scroller.scrollLeft + width / 2) / this.scale;
    this.zoomed = true;
    this.scale = Math.max(whole, Math.min(scale, 2e5, MAX_PIXELS / Math.max(this.end, 1e-3)));
    this.#layOut();
    if (!this.following) this.scroller.scrollLeft = middle * this.scale - width / 2;
    this.#later();
  }

  // -- what is pointed at --------------------------------------------------------------------------------------------

  #key(event) {
    const sideways = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    const lanes = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const zoom = { "+": this.scale * 1.6, "=": this.scale * 1.6, "-": this.scale / 1.6, 0: 0 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (zoom !== undefined) this.#zoomTo(zoom);
    else if (sideways !== undefined || lanes !== undefined) this.#go(sideways ?? 0, lanes ?? 0);
    else return;
    event.preventDefault();
  }

  #go(sideways, down) {
    const lanes = [...[...this.lanes.values()].map((lane) => lane.items), this.steps];
    const from = this.active ?? this.steps.at(-1);
    if (!from) return;
    let row = Math.max(0, lanes.findIndex((items) => items === (from.lane?.items ?? this.steps)));
    row = Math.max(0, Math.min(lanes.length - 1, row + down));
    const items = lanes[row];
    const here = from.lane?.items === items || (!from.lane && items === this.steps) ? items.indexOf(from) : firstAfter(items, from.start);
    const next = this.active ? here + sideways : here;
    const item = items[Math.max(0, Math.min(items.length - 1, next))];
    const left = item.start * this.scale - this.scroller.scrollLeft;
    if (left < 20 || left > this.scroller.clientWidth - 90) {
      this.following = false;
      this.scroller.scrollLeft = item.start * this.scale - this.scroller.clientWidth / 2;
    }
    this.#show(item);
    this.spoken.textContent = this.#says(item).join(". ");
  }

  #under(x, y) {
    const at = (this.scroller.scrollLeft + x) / this.scale;
    const lanes = [...this.lanes.values()], row = Math.floor((y - AXIS) / LANE);
    const items = row < 0 ? undefined : (lanes[row]?.items ?? this.steps);
    const item = items?.[firstAfter(items, at)];
    return item && (item.rooted ?? item.start) - 4 / this.scale <= at ? item : null;
  }

  #show(item) {
    if (item !== this.active) this.#later();
    this.active = item;
    this.tip.hidden = !item;
    if (!item) return;
    this.tip.replaceChildren(...this.#says(item).map((line) => make("div", "", [line])));
    const middle = ((item.start + item.end) / 2) * this.scale - this.scroller.scrollLeft;
    const room = this.scroller.clientWidth - this.tip.offsetWidth - 4;
    const row = item.lane ? [...this.lanes.keys()].indexOf(item.lane.name) : this.lanes.size;
    this.tip.style.left = `${Math.max(4, Math.min(room, middle - this.tip.offsetWidth / 2))}px`;
    this.tip.style.top = item.lane ? `${AXIS + (row + 1) * LANE - GAP + 8}px` : `${Math.max(0, AXIS + row * LANE - this.tip.offsetHeight)}px`;
  }

  #says(item) {
    const named = (nodes) => nodes.slice(0, 10).map((node) => this.#word(node.token)).join("  ") + (nodes.length > 10 ? `  and ${nodes.length - 10} more` : "");
    const list = (name, nodes) => (nodes.length ? [`${name}: ${named(nodes)}`] : []);
    const [from, to] = [item.start, item.end].map((at) => `${(at * 1000).toFixed(1)}`);
    if (item.lane) {
      const by = (fate) => item.nodes.filter((node) => node.fate === fate);
      const count = `${item.nodes.length} ${item.nodes.length === 1 ? "node" : "nodes"}`;
      return [`${item.lane.name}: ${count} at ${to} ms, grown since ${from} ms`, ...list("hits", by("hit")), ...list("misses", by("miss")), ...list("not verified", by("rest"))];
    }
    const waited = ((item.start - item.rooted) * 1000).toFixed(1);
    return [`step from ${from} to ${to} ms, ${item.rows} ${item.rows === 1 ? "row" : "rows"}, waited ${waited} ms`,
            ...list("hits", item.hits), ...list("misses", item.misses), `says: ${item.tokens.map((token) => this.#word(token)).join("  ")}`];
  }

  #word(token) {
    const text = this.text(token);
    return text === undefined ? `#${token}` : `“${visible(text)}”`;
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#layOut();
      this.#draw();
    });
  }

  #layOut() {
    const width = this.scroller.clientWidth, height = AXIS + this.lanes.size * LANE + LABEL + BLOCK + WORDS;
    const ratio = devicePixelRatio;
    this.track.style.width = `${Math.max(width, Math.ceil(this.end * this.scale) + 8)}px`;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      [this.canvas.style.width, this.canvas.style.height] = [`${width}px`, `${height}px`];
    }
    if (this.following) this.scroller.scrollLeft = this.scroller.scrollWidth;
    this.scroller.setAttribute("aria-label", `Timeline: ${this.steps.length} steps, ${this.totals.verified} nodes verified, ${this.totals.accepted} of them hits`);
  }

  #draw() {
    const style = getComputedStyle(this.scroller);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const names = ["ink", "muted", "line", "surface", "block", "hit", "miss", ...Array.from({ length: PALETTE }, (_, slot) => `by-${slot}`)];
    this.colours = Object.fromEntries(names.map((name) => [name, colour(name)]));
    this.pen = this.canvas.getContext("2d");
    this.pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.width = this.scroller.clientWidth;
    this.from = this.scroller.scrollLeft / this.scale;
    this.to = this.from + this.width / this.scale;
    this.pen.clearRect(0, 0, this.width, this.canvas.height);
    this.marks = new Map();
    this.#axis();
    let top = AXIS;
    for (const lane of this.lanes.values()) {
      this.#lane(lane, top);
      top += LANE;
    }
    this.#verifier(top);
    if (this.active) this.#outline(this.active, top);
  }

  #x(at) {
    return (at - this.from) * this.scale;
  }

  #axis() {
    const apart = TICKS.find((tick) => tick * this.scale >= 80) ?? 600, pen = this.pen;
    pen.font = "11px system-ui, sans-serif";
    for (let tick = Math.ceil(this.from / apart); tick * apart <= this.to; tick += 1) {
      const x = Math.round(this.#x(tick * apart)) + 0.5;
      this.#line(x, AXIS - 4, x, this.canvas.height, this.colours.line);
      this.#words(apart < 1 ? `${+(tick * apart * 1000).toFixed(1)} ms` : `${tick * apart} s`, x + 4, 12, this.colours.muted);
    }
  }

  #lane(lane, top) {
    const tint = this.colours[`by-${lane.slot}`], bar = top + LABEL + MARKS;
    let drawnTo = -Infinity;
    for (let index = firstAfter(lane.items, this.from); index < lane.items.length; index += 1) {
      const item = lane.items[index], [idle, start, end] = [item.idleFrom, item.start, item.end].map((at) => this.#x(at));
      if (idle > this.width) break;
      if (end - drawnTo < 1) continue;
      if (start > idle) this.#line(idle, bar + BAR / 2, start, bar + BAR / 2, tint, [1, 3]);
      this.#box(Math.min(start, end - 2), bar, Math.max(2, end - start - 1), BAR, tint, 2);
      const room = Math.max(1, Math.floor((end - Math.max(start, drawnTo)) / PITCH));
      this.#stack(item.nodes, end - PITCH / 2, bar - PITCH / 2 - 1, room, Math.floor(MARKS / PITCH), -1, tint);
      drawnTo = end;
    }
    this.#label(lane.name, top, tint);
  }

  /** Marks of nodes in columns of `high`, hits first; where there are too many, what was not verified is left out first. */
  #stack(nodes, x, y, columns, high, direction, tint) {
    const order = { hit: 0, miss: 1, rest: 2 };
    const shown = [...nodes].sort((one, other) => order[one.fate] - order[other.fate]).slice(0, columns * high);
    shown.forEach((node, index) => {
      const at = [x + direction * Math.floor(index / high) * PITCH, y - (index % high) * PITCH];
      this.marks.set(node.id, [...(this.marks.get(node.id) ?? []), at]);
      this.#mark(node.fate, ...at, tint);
    });
  }

  #mark(fate, x, y, tint) {
    const pen = this.pen;
    pen.beginPath();
    if (fate === "miss") {
      pen.moveTo(x - 2.4, y - 2.4);
      pen.lineTo(x + 2.4, y + 2.4);
      pen.moveTo(x + 2.4, y - 2.4);
      pen.lineTo(x - 2.4, y + 2.4);
      pen.strokeStyle = this.colours.miss;
      pen.lineWidth = 1.5;
      pen.stroke();
      return;
    }
    pen.arc(x, y, fate === "hit" ? 3.3 : 1.3, 0, 7);
    pen.fillStyle = fate === "hit" ? this.colours.hit : tint;
    pen.fill();
  }

  #verifier(top) {
    const y = top + LABEL;
    let drawnTo = -Infinity;
    for (let index = firstAfter(this.steps, this.from); index < this.steps.length; index += 1) {
      const step = this.steps[index], [rooted, start, end] = [step.rooted, step.start, step.end].map((at) => this.#x(at));
      if (rooted > this.width) break;
      if (end - drawnTo < 1) continue;
      this.#hatch(rooted, y, start - rooted, BLOCK);
      this.#block(step, start, y, Math.max(1, end - start - 1));
      drawnTo = end;
    }
    this.#label("verifier", top, this.colours.ink);
  }

  #block(step, x, y, width) {
    const { pen, colours } = this, all = step.hits.length + step.misses.length;
    this.#box(x, y, width, BLOCK, colours.block, Math.min(4, width / 3));
    if (width < 2 * PITCH + 4) {
      const share = all ? step.hits.length / all : 0;
      this.#box(x, y + BLOCK * (1 - share), width, BLOCK * share, colours.hit, 0);
      return;
    }
    pen.font = "11px system-ui, sans-serif";
    this.#words(width > 44 ? `${step.rows} ${step.rows === 1 ? "row" : "rows"}` : `${step.rows}`, x + 5, y + 12, colours.ink, width - 6);
    this.#stack([...step.hits, ...step.misses], x + 8, y + BLOCK - PITCH / 2 - 3, Math.floor((width - 6) / PITCH), 3, 1, colours.muted);
    pen.font = "12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
    let at = x + 1;
    step.tokens.forEach((token, index) => {
      const word = visible(this.text(token) ?? `#${token}`), by = step.hits[index]?.drafters[0];
      const room = x + width - at, needed = pen.measureText(word).width;
      if (needed <= room || (index === 0 && room > 8)) this.#words(word, at, y + BLOCK + 13, by === undefined ? colours.ink : colours[`by-${this.slotOf(by)}`], room);
      at += needed + (needed <= room ? 4 : 1e9);
    });
  }

  /** The active item's frame, and rings round its nodes wherever they are drawn. */
  #outline(item, top) {
    const { pen } = this, [start, end] = [item.start, item.end].map((at) => this.#x(at));
    const row = item.lane ? AXIS + [...this.lanes.keys()].indexOf(item.lane.name) * LANE : top;
    pen.strokeStyle = this.colours.ink;
    pen.lineWidth = 1.5;
    pen.strokeRect(start - 1, row + LABEL - 1, Math.max(4, end - start + 1), (item.lane ? MARKS + BAR : BLOCK) + 2);
    for (const node of item.nodes ?? [...item.hits, ...item.misses]) {
      for (const [x, y] of this.marks.get(node.id) ?? []) {
        pen.beginPath();
        pen.arc(x, y, 5, 0, 7);
        pen.stroke();
      }
    }
  }

  #label(name, top, tint) {
    this.pen.font = "600 12px system-ui, sans-serif";
    this.#box(0, top + 1, this.pen.measureText(name).width + 8, LABEL - 3, this.colours.surface, 0);
    this.#words(name, 2, top + 12, tint);
  }

  #hatch(x, y, width, height) {
    if (width < 1) return;
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(x, y, width, height);
    this.pen.clip();
    for (let at = x - height; at < x + width; at += 5) this.#line(at, y + height, at + height, y, this.colours.muted);
    this.pen.restore();
  }

  #box(x, y, width, height, fill, radius) {
    this.pen.beginPath();
    this.pen.roundRect(x, y, width, height, radius);
    this.pen.fillStyle = fill;
    this.pen.fill();
  }

  #line(x, y, toX, toY, stroke, dash = []) {
    this.pen.beginPath();
    this.pen.setLineDash(dash);
    this.pen.moveTo(x, y);
    this.pen.lineTo(toX, toY);
    this.pen.strokeStyle = stroke;
    this.pen.lineWidth = 1;
    this.pen.stroke();
    this.pen.setLineDash([]);
  }

  #words(words, x, y, fill, width) {
    this.pen.fillStyle = fill;
    if (width === undefined) return this.pen.fillText(words, x, y);
    let shown = words;
    while (shown.length > 1 && this.pen.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
    return this.pen.fillText(shown, x, y);
  }
}

function make(tag, classes = "", children = []) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...children);
  return element;
}

/** The index of the first item that ends at `at` or later, else of the last. */
function firstAfter(items, at) {
  let [low, high] = [0, Math.max(0, items.length - 1)];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].end < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

function visible(text) {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·");
}
