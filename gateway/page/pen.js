// The few things that a strip is drawn of.

const PLAIN = "11px system-ui, sans-serif";

/** Draws on a canvas's context, in CSS pixels. */
export class Pen {
  constructor(context, colours) {
    this.context = context;
    this.colours = colours;
  }

  /** A node: a disc for a hit, a circle for one that came late, a cross for a miss, else a dot in its drafter's colour;
   * a pale one where the text took another way. */
  mark(fate, x, y, tint) {
    const { context } = this;
    if (fate === "miss") {
      this.line(x - 2.4, y - 2.4, x + 2.4, y + 2.4, this.colours.miss, [], 1.5);
      this.line(x + 2.4, y - 2.4, x - 2.4, y + 2.4, this.colours.miss, [], 1.5);
      return;
    }
    context.beginPath();
    if (fate === "late") {
      context.arc(x, y, 2.5, 0, 7);
      this.#stroke(this.colours.hit, [], 1.3);
      return;
    }
    context.arc(x, y, fate === "hit" ? 3.3 : 1.3, 0, 7);
    context.fillStyle = fate === "hit" ? this.colours.hit : tint;
    context.globalAlpha = fate === "lost" ? 0.55 : 1;
    context.fill();
    context.globalAlpha = 1;
  }

  ring(x, y) {
    this.context.beginPath();
    this.context.arc(x, y, 5, 0, 7);
    this.#stroke(this.colours.ink, [], 1.5);
  }

  frame(x, y, width, height) {
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.#stroke(this.colours.ink, [], 1.5);
  }

  box(x, y, width, height, fill, radius = 0, alpha = 1) {
    this.context.beginPath();
    this.context.roundRect(x, y, width, height, radius);
    this.context.fillStyle = fill;
    this.context.globalAlpha = alpha;
    this.context.fill();
    this.context.globalAlpha = 1;
  }

  /** From one lane to another. */
  wire(x, y, toX, toY, tint) {
    this.context.globalAlpha = 0.4;
    this.line(x, y, toX, toY, tint);
    this.context.globalAlpha = 1;
  }

  hatch(x, y, width, height) {
    if (width < 1) return;
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
    for (let at = x - height; at < x + width; at += 5) this.line(at, y + height, at + height, y, this.colours.muted);
    this.context.restore();
  }

  line(x, y, toX, toY, stroke, dash = [], width = 1) {
    this.context.beginPath();
    this.context.moveTo(x, y);
    this.context.lineTo(toX, toY);
    this.#stroke(stroke, dash, width);
  }

  /** Writes what fits into `room`; returns how wide that is. */
  words(words, x, y, fill, { font = PLAIN, room = Infinity } = {}) {
    const { context } = this;
    context.font = font;
    let shown = words;
    while (shown.length > 1 && context.measureText(shown).width > room) shown = `${shown.slice(0, -2)}…`;
    context.fillStyle = fill;
    context.fillText(shown, x, y);
    return context.measureText(shown).width;
  }

  measure(words, font) {
    this.context.font = font;
    return this.context.measureText(words).width;
  }

  #stroke(stroke, dash, width) {
    this.context.setLineDash(dash);
    this.context.strokeStyle = stroke;
    this.context.lineWidth = width;
    this.context.stroke();
  }
}
