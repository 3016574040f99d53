// A session's event record, put together as it comes.
//
// What events hold is written in docs/observability.md, "Timelines". Their times are seconds since the session was
// opened on its verifier; here all times are seconds since the record's own beginning. A session that goes on elsewhere
// is opened there, and its nodes are numbered anew.

const SLACK = 5e-3; // seconds that two clocks of one machine may be apart, read one after the other
const MOST_WIRE = 5; // seconds that a message may have been on its way; clocks that say more are not believed

/** Lanes of the gateway, of drafters and of verifiers; items lie in the order of their `end`. */
export class SessionRecord {
  gateway = laneOf("gateway", "");
  lanes = new Map(); // drafters, by name
  verifiers = new Map();
  steps = [];
  end = 0;
  emitted = 0;
  verified = 0;
  accepted = 0;
  #nodes = new Map();
  #live = new Set(); // nodes of which nothing is decided
  #verifier = laneOf("verifier", "");
  #opened = 0;
  #origin;

  /** `started`: when the request came, in seconds since 1970; unknown, the record begins where its first event does. */
  constructor({ started } = {}) {
    this.#origin = started;
  }

  add(event) {
    const take = { arrival: this.#arrival, step: this.#step, placed: this.#placed, phase: this.#phase }[event.type];
    if (!take) throw new Error(`type = ${event.type}: expected arrival, step, placed or phase`);
    take.call(this, event);
  }

  /** The answer is whole, `ended` seconds after the request came. */
  finish({ ended }) {
    const start = this.gateway.items.at(-1)?.end ?? 0;
    this.#put(this.gateway, { name: "answer", start, end: Math.max(start, ended), tokens: this.emitted });
  }

  /** What comes now is of the session as it was opened elsewhere; where it says when that was, it lies there. */
  goOn() {
    this.#opened = this.end;
    this.#nodes.clear();
    this.#drop([...this.#live]);
  }

  /** Lanes from top to bottom; that of the verifier is there before anything has come. */
  rows() {
    const gateway = this.gateway.items.length ? [this.gateway] : [];
    const verifiers = this.verifiers.size ? this.verifiers.values() : [this.#verifier];
    return [...gateway, ...this.lanes.values(), ...verifiers];
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

  #put(lane, item) {
    lane.items.push(Object.assign(item, { lane }));
    this.end = Math.max(this.end, item.end);
    return item;
  }

  #placed({ verifier, opened }) {
    if (this.#origin === undefined) this.#origin = opened - this.#opened;
    this.goOn();
    this.#opened = Math.max(this.end, opened - this.#origin);
    this.#verifier = this.verifiers.get(verifier) ?? laneOf("verifier", verifier);
    this.verifiers.set(verifier, this.#verifier);
  }

  #phase({ name, role, started, ended, tokens }) {
    const before = -(this.#opened + started);
    if (before > 0 && !this.end) { // the first thing that is known: here the record begins
      this.#opened += before;
      this.#origin -= before;
    }
    const [start, end] = [started, ended].map((at) => Math.max(0, this.#opened + at));
    this.#put(role === "gateway" ? this.gateway : this.#here(), { name, start, end, tokens });
  }

  #arrival({ at, drafter, nodes, idle, busy, grown_from: grownFrom = 0, sent = 0 }) {
    if (!this.lanes.has(drafter)) this.lanes.set(drafter, Object.assign(laneOf("drafter", drafter), NOTHING_YET));
    const lane = this.lanes.get(drafter), wire = at - sent;
    const told = (grownFrom || sent) && grownFrom <= sent && wire >= -SLACK && wire <= MOST_WIRE;
    const [from, to] = told ? [grownFrom, Math.min(sent, at)] : [at - busy, at];
    const [start, end, arrived] = [Math.min(from, to), to, at].map((time) => this.#opened + time);
    const growth = this.#put(lane, { idleFrom: start - idle, start, end, arrived, nodes: [] });
    this.end = Math.max(this.end, arrived);
    growth.nodes = nodes.map((row) => this.#node(row, drafter, growth));
  }

  #node([id, parent, token, position, score], drafter, growth) {
    let node = this.#nodes.get(id);
    if (!node) {
      node = { id, parent: this.#nodes.get(parent), token, position, growth, fate: "rest", drafters: [], scores: [] };
      this.#nodes.set(id, node);
      this.#live.add(node);
    }
    if (!node.drafters.includes(drafter)) {
      node.drafters.push(drafter);
      node.scores.push(score);
    }
    return node;
  }

  #step({ rooted, launched, decided, verified, accepted, token_ids: tokens, position }) {
    const known = (ids) => ids.map((id) => this.#nodes.get(id)).filter((node) => node !== undefined);
    const [nodes, hits] = [known(verified), known(accepted)];
    for (const node of nodes) node.fate = "miss";
    for (const node of hits) node.fate = "hit";
    const misses = nodes.filter((node) => node.fate === "miss");
    const [from, start, end] = this.#clear([rooted, launched, decided].map((at) => this.#opened + at), tokens);
    const step = this.#put(this.#here(), { rooted: from, start, end, hits, misses, rows: 1 + verified.length, tokens });
    this.steps.push(step);
    for (const node of nodes) {
      node.step = step;
      this.#live.delete(node);
      for (const name of node.drafters) {
        this.lanes.get(name).verified += 1;
        this.lanes.get(name).accepted += node.fate === "hit";
      }
    }
    this.#settle(position, tokens);
    this.emitted += tokens.length;
    this.verified += verified.length;
    this.accepted += accepted.length;
  }

  /** The times of a step; one that was the last part of a prefill is no longer than what was left of it. */
  #clear([from, start, end], tokens) {
    const before = this.#verifier.items.at(-1);
    if (!before?.name || before.end <= start) return [from, start, end];
    before.says = tokens;
    return [before.end, Math.min(before.end, end), Math.max(before.end, end)];
  }

  /** The lane of the verifier where the session is. */
  #here() {
    if (!this.verifiers.size) this.verifiers.set(this.#verifier.name, this.#verifier);
    return this.#verifier;
  }

  /** `tokens` are the text from `position` on: what was guessed there, or grows from that, is right or lost. */
  #settle(position, tokens) {
    const left = position + tokens.length;
    for (const node of this.#live) { // parents come before their children
      const grows = !node.parent || STANDING.includes(node.parent.fate);
      if (!grows || (node.position < left && tokens[node.position - position] !== node.token)) this.#drop([node]);
      else if (node.position < left) {
        node.fate = "late";
        this.#live.delete(node);
      }
    }
  }

  #drop(nodes) {
    for (const node of nodes) {
      node.fate = "lost";
      this.#live.delete(node);
    }
  }
}

const STANDING = ["hit", "late", "rest"]; // fates of nodes that something can grow from
const NOTHING_YET = { verified: 0, accepted: 0 };
const laneOf = (role, name) => ({ role, name, items: [] });

/** What a record comes to after its first token: seconds, tokens, and the share of drafting that fell into steps. */
export function summary(record) {
  const [first, last] = [record.steps[0], record.steps.at(-1)];
  const growths = [...record.lanes.values()].flatMap((lane) => lane.items.map((item) => [item, item.end - item.start]));
  const drafting = growths.reduce((sum, [, long]) => sum + long, 0);
  const both = growths.reduce((sum, [item]) => sum + within(record.steps, item), 0);
  const decoding = last ? last.end - first.end : 0, tokens = record.emitted - (first?.tokens.length ?? 0);
  const waited = record.steps.slice(1).reduce((sum, step) => sum + step.start - step.rooted, 0);
  return { decoding, tokens, waited, overlap: drafting ? both / drafting : 0 };
}

/** Seconds of an item's time in which a step was in flight. */
function within(steps, { start, end }) {
  let seconds = 0;
  for (let index = firstAfter(steps, start); index < steps.length && steps[index].start < end; index += 1) {
    seconds += Math.max(0, Math.min(end, steps[index].end) - Math.max(start, steps[index].start));
  }
  return seconds;
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
