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
      if (token.text && !this.texts.has(token.id)) this.texts.set(token.id, token.text);
      const who = token.drafters.join(" and ");
      this.counts.set(who, { drafters: token.drafters, count: (this.counts.get(who)?.count ?? 0) + 1 });
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

  #token({ text, drafters }) {
    const element = span(this.#classes(drafters), text);
    element.title = drafters.length ? `guessed by ${drafters.join(" and ")}` : "the target’s own";
    return element;
  }

  /** A line for the first drafter and one for the second: more would not be told apart. */
  #classes(drafters) {
    const [first, second] = drafters.map(this.slotOf);
    const classes = ["token"];
    if (first !== undefined) classes.push(`by-${first}`);
    if (second !== undefined) classes.push(`and-${second}`);
    return classes.join(" ");
  }

  #writeLegend() {
    const entries = [...this.counts].sort(([, one], [, other]) => one.drafters.length - other.drafters.length);
    const items = entries.map(([who, { drafters, count }]) => {
      const item = document.createElement("li");
      item.append(span(this.#classes(drafters), who || "target itself"), ` ${count}`);
      return item;
    });
    this.legend.replaceChildren(...items);
  }
}

function span(classes, text) {
  const element = document.createElement("span");
  element.className = classes;
  element.textContent = text;
  return element;
}
