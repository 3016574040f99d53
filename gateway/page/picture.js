// What a strip shows, drawn on its canvas: lanes of the gateway and of drafters, and verifiers' steps below them.

import { Pen } from "./pen.js";
import { firstAfter } from "./record.js";
import { titleOf, visible } from "./words.js";

export const PALETTE = 6;
const AXIS = 20, TITLE = 26, BETWEEN = 12; // pixels
const LABEL = 17, MARKS = 40, BAR = 9, BLOCK = 46, LINES = 2, LINE = 16, WORDS = 4 + LINES * LINE, PHASE = 14;
const HEIGHTS = { gateway: LABEL + PHASE + 4, drafter: LABEL + MARKS + BAR + 8, verifier: LABEL + BLOCK + WORDS };
const PITCH = 8; // from mark to mark
const NODE = 2; // height of a node where there is no room for marks
const COLOURS = ["ink", "muted", "line", "surface", "block", "hit", "miss"];
const DASHES = [[], [5, 2], [1, 2], [], [8, 2], []]; // as the lines under tokens
const TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
const BOLD = "600 12px system-ui, sans-serif", TITLES = "650 14px system-ui, sans-serif";
const MONO = "12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const RANKS = { hit: 0, miss: 1, late: 2, rest: 3, lost: 4 };

/** Where the lanes of all runs lie, from top to bottom, and how high that is. */
export function layOut(runs) {
  const [rows, titles] = [[], []];
  let top = AXIS;
  for (const run of runs) {
    if (titles.length) top += BETWEEN;
    if (run.title) {
      titles.push({ run, top });
      top += TITLE;
    }
    for (const lane of run.record.rows()) {
      rows.push({ run, lane, top, height: HEIGHTS[lane.role] });
      top += HEIGHTS[lane.role];
    }
  }
  return { rows, titles, height: top };
}

/** One drawing of the seconds from `from` on, `scale` pixels each; only what can be seen is looked at. */
export class Picture {
  constructor(canvas, { layout, slotOf, from, scale, width }) {
    Object.assign(this, { layout, slotOf, from, scale, width, height: layout.height });
    const style = getComputedStyle(canvas), context = canvas.getContext("2d");
    const names = [...COLOURS, ...Array.from({ length: PALETTE }, (_, slot) => `by-${slot}`)];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.pen = new Pen(context, this.colours);
    [this.drafted, this.checked] = [new Map(), new Map()]; // where each node is drawn, in lanes and in steps
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, this.height);
  }

  draw(active) {
    const { rows, titles } = this.layout;
    this.#axis();
    for (const row of rows) if (row.lane.role === "drafter") this.#wires(row);
    for (const row of rows) this[`_${row.lane.role}`](row);
    for (const { lane, top } of rows) this.#label(titleOf(lane), top, this.#tint(lane.role === "drafter" ? lane.name : undefined));
    for (const { run, top } of titles) this.#title(run, top);
    if (active) this.#outline(active);
  }

  /** The node whose mark is nearest to a place, if one is there. */
  nodeAt(x, y) {
    for (const places of [this.drafted, this.checked]) {
      for (const [node, marks] of places) {
        if (marks.some(([left, top]) => Math.hypot(left - x, top - y) < PITCH / 2)) return node;
      }
    }
    return null;
  }

  #x(at) {
    return (at - this.from) * this.scale;
  }

  #tint(drafter) {
    return drafter === undefined ? this.colours.ink : this.colours[`by-${this.slotOf(drafter)}`];
  }

  #axis() {
    const apart = TICKS.find((tick) => tick * this.scale >= 80) ?? 600;
    for (let tick = Math.ceil(this.from / apart); this.#x(tick * apart) <= this.width; tick += 1) {
      const x = Math.round(this.#x(tick * apart)) + 0.5, seconds = tick * apart;
      this.pen.line(x, AXIS - 4, x, this.height, this.colours.line);
      const label = apart < 1 ? `${Number((seconds * 1000).toFixed(1))} ms` : `${seconds} s`;
      if (x < this.width - 48) this.pen.words(label, x + 4, 12, this.colours.muted);
    }
  }

  /** Calls `draw` with each item that can be seen and where its times lie; less than a pixel is passed over. */
  #visible(items, first, draw) {
    let drawnTo = -Infinity;
    for (let index = firstAfter(items, this.from); index < items.length; index += 1) {
      const item = items[index], [before, start, end] = [item[first] ?? item.start, item.start, item.end].map((at) => this.#x(at));
      if (before > this.width) return;
      if (end - drawnTo < 1) continue;
      draw(item, before, start, end, drawnTo);
      drawnTo = end;
    }
  }

  /** From where nodes were sent to where they arrived. */
  #wires({ run, lane, top }) {
    const verifier = this.layout.rows.find((row) => row.run === run && row.lane.role === "verifier");
    const tint = this.#tint(lane.name), from = top + LABEL + MARKS + BAR, to = verifier.top + LABEL - 2;
    let drawnTo = -Infinity;
    this.#visible(lane.items, "start", (item, _, __, end) => {
      if (end - drawnTo < 4 || !item.nodes.length) return;
      this.pen.wire(end - 1, from, this.#x(item.arrived), to, tint);
      drawnTo = end;
    });
  }

  _gateway({ lane, top }) {
    this.#visible(lane.items, "start", (item, _, start, end) => this.#phase(item, start, end, top + LABEL, PHASE));
  }

  /** A box with a name, where there is room for one. */
  #phase({ name }, start, end, y, height) {
    const width = Math.max(1.5, end - start - 1), from = Math.max(start, 0);
    this.pen.box(start, y, width, height, this.colours.line, Math.min(3, width / 3));
    if (end - from > 24) this.pen.words(name, from + 5, y + height / 2 + 4, this.colours.ink, { room: end - from - 8 });
  }

  _drafter({ lane, top }) {
    const tint = this.#tint(lane.name), bar = top + LABEL + MARKS;
    this.#visible(lane.items, "idleFrom", (item, idle, start, end, drawnTo) => {
      if (start - idle > 2) this.pen.line(idle, bar + BAR / 2, start, bar + BAR / 2, tint, [1, 3]);
      this.pen.box(Math.min(start, end - 2), bar, Math.max(2, end - start - 1), BAR, tint, 2);
      const from = Math.max(start, drawnTo);
      if (end - from < PITCH - 1) this.#column(item.nodes, Math.min(from, end - 2), Math.max(2, end - from - 1), bar - 2, tint);
      else {
        const shape = { columns: Math.max(1, Math.floor((end - from) / PITCH)), high: MARKS / PITCH, leftwards: true, tint };
        this.#stack(item.nodes, end - PITCH / 2, bar - PITCH / 2 - 1, shape, this.drafted);
      }
    });
  }

  /** Nodes one on the other, where there is no room for marks. */
  #column(nodes, x, width, bottom, tint) {
    let y = bottom;
    const tall = Math.min(NODE, (MARKS - 2) / nodes.length);
    for (const [fates, fill, alpha] of [[["hit"], this.colours.hit, 1], [["miss"], this.colours.miss, 1], [["late", "rest", "lost"], tint, 0.35]]) {
      const high = tall * nodes.filter((node) => fates.includes(node.fate)).length;
      y -= high;
      if (high) this.pen.box(x, y, width, high, fill, 0, alpha);
    }
  }

  /** Marks of nodes in columns, hits first; where there are too many, those not verified are left out first. */
  #stack(nodes, x, y, { columns, high, leftwards = false, tint }, places) {
    const ranked = [...nodes].sort((one, other) => RANKS[one.fate] - RANKS[other.fate]);
    ranked.slice(0, columns * high).forEach((node, index) => {
      const aside = Math.floor(index / high) * PITCH;
      const at = [leftwards ? x - aside : x + aside, y - (index % high) * PITCH];
      places.set(node, [...(places.get(node) ?? []), at]);
      this.pen.mark(node.fate, ...at, tint);
    });
  }

  _verifier({ run, lane, top }) {
    this.#visible(lane.items, "rooted", (item, rooted, start, end) => {
      if (!item.hits) {
        this.#phase(item, start, end, top + LABEL, BLOCK);
        if (item.says) this.#emitted({ tokens: item.says, hits: [] }, start + 1, top + LABEL + BLOCK + 13, end - start, run.text);
        return;
      }
      this.pen.hatch(rooted, top + LABEL, start - rooted, BLOCK);
      this.#block(item, start, top + LABEL, Math.max(1, end - start - 1), run.text);
    });
  }

  #block(step, x, y, width, text) {
    this.pen.box(x, y, width, BLOCK, this.colours.block, Math.min(4, width / 3));
    if (width < 2 * PITCH + 4) {
      const high = (BLOCK * step.hits.length) / Math.max(1, step.rows - 1);
      this.pen.box(x, y + BLOCK - high, width, high, this.colours.hit);
      return;
    }
    const rows = width > 44 ? `${step.rows} ${step.rows === 1 ? "row" : "rows"}` : `${step.rows}`;
    this.pen.words(rows, x + 5, y + 12, this.colours.ink, { room: width - 6 });
    const columns = Math.floor((width - 6) / PITCH);
    const shape = { columns, high: 3 };
    this.#stack([...step.hits, ...step.misses], x + 8, y + BLOCK - PITCH / 2 - 3, shape, this.checked);
    this.#emitted(step, x + 1, y + BLOCK + 13, width, text);
  }

  /** The tokens that a step emitted, each with the line of who guessed it, on as many lines as there is room for; an
   * ellipsis for those that are left. */
  #emitted(step, x, y, width, text) {
    let [at, line] = [0, 0];
    for (const [index, token] of step.tokens.entries()) {
      const word = visible(text(token) ?? `#${token}`), wide = this.pen.measure(word, MONO);
      if (at && at + wide > width) {
        if (line + 1 === LINES) return void this.pen.words("…", x + Math.min(at, width - PITCH), y + line * LINE, this.colours.muted, { font: MONO });
        [at, line] = [0, line + 1];
      }
      const drafter = step.hits[index]?.drafters[0], tint = this.#tint(drafter), from = x + at, base = y + line * LINE;
      const long = this.pen.words(word, from, base, tint, { font: MONO, room: width });
      if (drafter !== undefined) this.pen.line(from, base + 3.5, from + long, base + 3.5, tint, DASHES[this.slotOf(drafter)]);
      at += long + 3;
    }
  }

  /** A frame for the item that is pointed at, and rings round its nodes where they were drafted or checked; round a node
   * and the way to it. */
  #outline(item) {
    const ring = (node, places) => places.get(node)?.forEach(([x, y]) => this.pen.ring(x, y));
    for (let node = item.token === undefined ? undefined : item; node; node = node.parent) {
      for (const places of [this.drafted, this.checked]) ring(node, places);
    }
    const row = this.layout.rows.find(({ lane }) => lane === item.lane);
    if (!row) return;
    const [start, end] = [item.start, item.end].map((at) => this.#x(at));
    const high = { gateway: PHASE, drafter: MARKS + BAR, verifier: BLOCK }[row.lane.role];
    this.pen.frame(start - 1, row.top + LABEL - 1, Math.max(4, end - start + 1), high + 2);
    for (const node of item.nodes ?? [...(item.hits ?? []), ...(item.misses ?? [])]) {
      ring(node, item.nodes ? this.checked : this.drafted);
    }
  }

  #label(name, top, tint) {
    this.pen.box(0, top + 1, this.pen.measure(name, BOLD) + 8, LABEL - 3, this.colours.surface);
    this.pen.words(name, 2, top + 12, tint, { font: BOLD });
  }

  #title({ title, note }, top) {
    this.pen.box(0, top, this.width, TITLE - 3, this.colours.surface);
    const wide = this.pen.words(title, 2, top + 16, this.colours.ink, { font: TITLES });
    this.pen.words(note, wide + 14, top + 16, this.colours.muted, { room: this.width - wide - 20 });
    this.pen.line(0, top + TITLE - 3.5, this.width, top + TITLE - 3.5, this.colours.line);
  }
}
