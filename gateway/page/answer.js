// A text as it comes, each token marked with who guessed it. All of it goes into the page as text, never as markup.

/** Writes into `element`, and says in `legend` who is who; `slotOf` gives each drafter's place in the palette. */
export class Answer {
  constructor(element, legend, slotOf) {
    this.element = element;
    this.legend = legend;
    this.slotOf = slotOf;
    this.texts = new Map();
    this.begin("");
  }

  begin(prompt) {
    this.tokens = 0;
    this.guessed = 0;
    this.counts = new Map();
    this.element.replaceChildren();
    if (prompt) this.element.append(span("prompt", prompt));
    this.#writeLegend();
  }

  add(tokens) {
    const atEnd = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 24;
    const written = document.createDocumentFragment();
    for (const token of tokens) {
      this.tokens += 1;
      this.guessed += token.drafters.length > 0;
      if (token.text) this.texts.set(token.id, token.text);
      for (const name of token.drafters) this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
      if (token.text) written.append(this.#token(token));
    }
    this.element.append(written);
    this.#writeLegend();
    if (atEnd) this.element.scrollTop = this.element.scrollHeight;
  }

  /** A target that tells no tokens: its text alone. */
  addText(text) {
    if (text) this.element.append(text);
  }

  #token(token) {
    const [first, second] = token.drafters.map(this.slotOf);
    const classes = ["token"];
    if (first !== undefined) classes.push(`by-${first}`);
    if (second !== undefined) classes.push(`and-${second}`);
    const element = span(classes.join(" "), token.text);
    element.title = token.drafters.length ? `guessed by ${token.drafters.join(" and ")}` : "the target’s own";
    return element;
  }

  #writeLegend() {
    const drafters = [...this.counts.keys()].sort((one, other) => this.slotOf(one) - this.slotOf(other));
    const entries = drafters.map((name) => entry(`by-${this.slotOf(name)}`, name, this.counts.get(name)));
    if (this.tokens) entries.push(entry("", "target itself", this.tokens - this.guessed));
    this.legend.replaceChildren(...entries);
  }
}

function entry(classes, name, count) {
  const item = document.createElement("li");
  item.append(span(`token ${classes}`, name), ` ${count}`);
  return item;
}

function span(classes, text) {
  const element = document.createElement("span");
  element.className = classes;
  element.textContent = text;
  return element;
}
