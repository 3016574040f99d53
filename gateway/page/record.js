// A session's event record, put together as it comes.
//
// An arrival is {type: "arrival", at, drafter, nodes: [[id, parent, token, position, log_score], …], idle, busy}, a step
// {type: "step", rooted, launched, decided, verified: [id, …], accepted: [id, …], token_ids, position}. Times are
// seconds since the session was opened; a node that a second drafter proposes comes again with its id. A session that
// goes on elsewhere is opened there, and counts anew.

/** Lanes of arrivals by drafter, and steps; items lie in the order of their `end`. */
export class SessionRecord {
  lanes = new Map();
  steps = [];
  end = 0;
  emitted = 0;
  verified = 0;
  accepted = 0;
  #nodes = new Map();
  #opened = 0;

  add(event) {
    if (event.type === "arrival") this.#arrival(event);
    else if (event.type === "step") this.#step(event);
    else if (!["placed", "phase"].includes(event.type)) throw new Error(`type = ${event.type}: expected arrival, step, placed or phase`);
  }

  /** What comes now is of the session as it was opened elsewhere. */
  goOn() {
    this.#opened = this.end;
    this.#nodes.clear();
  }

  /** Of each drafter: nodes verified and nodes accepted. */
  acceptance() {
    return [...this.lanes.values()].map(({ name, verified, accepted }) => ({ name, verified, accepted }));
  }

  /** How long a step usually takes, in seconds; undefined before the first. */
  usualStep() {
    const lengths = this.steps.map((step) => step.end - step.start).sort((one, other) => one - other);
    return lengths[lengths.length >> 1];
  }

  #arrival({ at, drafter, nodes, idle, busy }) {
    if (!this.lanes.has(drafter)) this.lanes.set(drafter, { name: drafter, items: [], verified: 0, accepted: 0 });
    const lane = this.lanes.get(drafter);
    const drafted = nodes.map(([id, , token]) => {
      const node = this.#nodes.get(id) ?? { id, token, fate: "rest", drafters: [] };
      this.#nodes.set(id, node);
      if (!node.drafters.includes(drafter)) node.drafters.push(drafter);
      return node;
    });
    const end = this.#opened + at;
    lane.items.push({ lane, idleFrom: end - busy - idle, start: end - busy, end, nodes: drafted });
    this.end = Math.max(this.end, end);
  }

  #step({ rooted, launched, decided, verified, accepted, token_ids: tokens }) {
    const known = (ids) => ids.map((id) => this.#nodes.get(id)).filter((node) => node !== undefined);
    const [nodes, hits] = [known(verified), known(accepted)];
    for (const node of nodes) node.fate = "miss";
    for (const node of hits) node.fate = "hit";
    for (const node of nodes) {
      for (const name of node.drafters) {
        this.lanes.get(name).verified += 1;
        this.lanes.get(name).accepted += node.fate === "hit";
      }
    }
    const misses = nodes.filter((node) => node.fate === "miss");
    const [from, start, end] = [rooted, launched, decided].map((at) => this.#opened + at);
    this.steps.push({ rooted: from, start, end, hits, misses, rows: 1 + verified.length, tokens });
    this.emitted += tokens.length;
    this.verified += verified.length;
    this.accepted += accepted.length;
    this.end = Math.max(this.end, end);
  }
}

/** The index of the first item that ends at `at` or later, else of the last. */
export function firstAfter(items, at) {
  let [low, high] = [0, Math.max(0, items.length - 1)];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].end < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A token's text on one line, its spaces to be seen. */
export function visible(text) {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·");
}
