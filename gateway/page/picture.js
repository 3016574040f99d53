// What a strip shows, drawn on its canvas: lanes of drafters, and the verifier's steps below them.

import { Pen } from "./pen.js";
import { firstAfter, visible } from "./record.js";

export const PALETTE = 6;
export const AXIS = 20, LANE = 72; // pixels
const LABEL = 17, MARKS = 40, BAR = 6, BLOCK = 46, WORDS = 20;
const PITCH = 8; // from mark to mark
const COLOURS = ["ink", "muted", "line", "surface", "block", "hit", "miss"];
const DASHES = [[], [5, 2], [1, 2], [], [8, 2], []]; // as the lines under tokens
const TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
const BOLD = "600 12px system-ui, sans-serif";
const MONO = "12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const FATES = { hit: 0, miss: 1, rest: 2 };

export const heightOf = (lanes) => AXIS + lanes * LANE + LABEL + BLOCK + WORDS;

/** One drawing of the seconds from `from` on, `scale` pixels each; only what can be seen is looked at. */
export class Picture {
  constructor(canvas, { record, text, slotOf, from, scale, width }) {
    Object.assign(this, { record, text, slotOf, from, scale, width });
    const style = getComputedStyle(canvas), context = canvas.getContext("2d");
    const names = [...COLOURS, ...Array.from({ length: PALETTE }, (_, slot) => `by-${slot}`)];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.height = heightOf(record.lanes.size);
    this.pen = new Pen(context, this.colours);
    [this.drafted, this.checked] = [new Map(), new Map()]; // where each node is drawn, in lanes and in steps
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, this.height);
  }

  draw(active) {
    this.#axis();
    [...this.record.lanes.values()].forEach((lane, row) => this.#lane(lane, AXIS + row * LANE));
    this.#verifier(AXIS + this.record.lanes.size * LANE);
    if (active) this.#outline(active);
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
      const item = items[index], [before, start, end] = [item[first], item.start, item.end].map((at) => this.#x(at));
      if (before > this.width) return;
      if (end - drawnTo < 1) continue;
      draw(item, before, start, end, drawnTo);
      drawnTo = end;
    }
  }

  #lane(lane, top) {
    const tint = this.#tint(lane.name), bar = top + LABEL + MARKS;
    this.#visible(lane.items, "idleFrom", (item, idle, start, end, drawnTo) => {
      if (start > idle) this.pen.line(idle, bar + BAR / 2, start, bar + BAR / 2, tint, [1, 3]);
      this.pen.box(Math.min(start, end - 2), bar, Math.max(2, end - start - 1), BAR, tint, 2);
      const columns = Math.max(1, Math.floor((end - Math.max(start, drawnTo)) / PITCH));
      const shape = { columns, high: MARKS / PITCH, leftwards: true, tint };
      this.#stack(item.nodes, end - PITCH / 2, bar - PITCH / 2 - 1, shape, this.drafted);
    });
    this.#label(lane.name, top, tint);
  }

  /** Marks of nodes in columns, hits first; where there are too many, those not verified are left out first. */
  #stack(nodes, x, y, { columns, high, leftwards = false, tint }, places) {
    const ranked = [...nodes].sort((one, other) => FATES[one.fate] - FATES[other.fate]);
    ranked.slice(0, columns * high).forEach((node, index) => {
      const aside = Math.floor(index / high) * PITCH;
      const at = [leftwards ? x - aside : x + aside, y - (index % high) * PITCH];
      places.set(node.id, [...(places.get(node.id) ?? []), at]);
      this.pen.mark(node.fate, ...at, tint);
    });
  }

  #verifier(top) {
    this.#visible(this.record.steps, "rooted", (step, rooted, start, end) => {
      this.pen.hatch(rooted, top + LABEL, start - rooted, BLOCK);
      this.#block(step, start, top + LABEL, Math.max(1, end - start - 1));
    });
    this.#label("verifier", top, this.colours.ink);
  }

  #block(step, x, y, width) {
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
    this.#emitted(step, x + 1, y + BLOCK + 13, width);
  }

  /** As many of the tokens that a step emitted as there is room for, each with the line of who guessed it. */
  #emitted(step, x, y, width) {
    let left = width;
    step.tokens.forEach((token, index) => {
      if (left < PITCH) return;
      const drafter = step.hits[index]?.drafters[0], tint = this.#tint(drafter), from = x + width - left;
      const wide = this.pen.words(visible(this.text(token) ?? `#${token}`), from, y, tint, { font: MONO, room: left });
      if (drafter !== undefined) this.pen.line(from, y + 3.5, from + wide, y + 3.5, tint, DASHES[this.slotOf(drafter)]);
      left -= wide + 4;
    });
  }

  /** A frame for the item that is pointed at, and rings round its nodes where they were drafted or checked. */
  #outline(item) {
    const rows = [...this.record.lanes.keys()], row = item.lane ? rows.indexOf(item.lane.name) : rows.length;
    const [start, end] = [item.start, item.end].map((at) => this.#x(at));
    const high = item.lane ? MARKS + BAR : BLOCK;
    this.pen.frame(start - 1, AXIS + row * LANE + LABEL - 1, Math.max(4, end - start + 1), high + 2);
    const places = item.lane ? this.checked : this.drafted;
    for (const node of item.nodes ?? [...item.hits, ...item.misses]) {
      for (const [x, y] of places.get(node.id) ?? []) this.pen.ring(x, y);
    }
  }

  #label(name, top, tint) {
    this.pen.box(0, top + 1, this.pen.measure(name, BOLD) + 8, LABEL - 3, this.colours.surface);
    this.pen.words(name, 2, top + 12, tint, { font: BOLD });
  }
}
