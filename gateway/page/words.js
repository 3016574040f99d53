// What is said of the items of a strip: to who points at them, and to who listens.

const MOST_NAMED = 10;
const FATES = [
  ["hits", "hit"], ["misses", "miss"], ["right, but the target had said it by then", "late"], ["not verified", "rest"],
  ["dropped", "lost"],
];
const BECAME = {
  hit: "accepted", miss: "verified, not accepted", late: "right, but the target had said it by then",
  rest: "not verified", lost: "dropped unverified: the text took another way",
};
const PHASES = { tokenize: "making tokens of the prompt", queue: "waiting for a place", prefill: "computing the prompt" };
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu; // what would not be seen, or turn others round

/** Lines about an item or a node; `text(token_id)` is what a token reads, where that is known. */
export function says(item, text) {
  const word = (token) => wordOf(token, text);
  if (item.token !== undefined) return ofNode(item, word);
  if (item.nodes) return ofGrowth(item, word);
  return item.hits ? ofStep(item, word) : ofPhase(item);
}

/** A token's text on one line, its spaces to be seen, and whatever else would not be. */
export function visible(text) {
  const spaced = text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·");
  return spaced.replace(HIDDEN, (one) => `⟨${one.codePointAt(0).toString(16).padStart(4, "0")}⟩`);
}

export const milliseconds = (seconds) => (seconds * 1000).toFixed(1);
export const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** What a lane is called. */
export function titleOf({ role, name }) {
  return name.startsWith(role) || !name ? name || role : `${role} ${name}`;
}

function wordOf(token, text) {
  const known = text(token);
  return known === undefined ? `#${token}` : `“${visible(known)}”`;
}

function ofStep({ start, end, rooted, rows, hits, misses, tokens }, word) {
  const [from, to, waited] = [start, end, start - rooted].map(milliseconds);
  const head = `step from ${from} to ${to} ms, ${counted(rows, "row")}, waited ${waited} ms`;
  return [head, ...named([...hits, ...misses], word), `says: ${tokens.map(word).join("  ")}`];
}

function ofGrowth({ lane, nodes, start, end, arrived }, word) {
  const [from, to, there] = [start, end, arrived].map(milliseconds);
  const wire = arrived > end ? `, sent at ${to}, there at ${there}` : "";
  return [`${lane.name}: ${counted(nodes.length, "node")} at ${to} ms, grown since ${from} ms${wire}`, ...named(nodes, word)];
}

function ofPhase({ lane, name, start, end, tokens }) {
  const [from, to, long] = [start, end, end - start].map(milliseconds);
  const what = PHASES[name] ? ` (${PHASES[name]})` : "";
  return [`${titleOf(lane)}: ${name}${what} from ${from} to ${to} ms: ${long} ms`, ...(tokens ? [counted(tokens, "token")] : [])];
}

function ofNode({ parent, token, drafters, scores, growth, step, fate }, word) {
  const who = drafters.map((name, index) => `${name}, ${estimate(scores[index])}`);
  const way = [];
  for (let above = parent; above; above = above.parent) way.unshift(word(above.token));
  const times = `grown ${milliseconds(growth.start)} to ${milliseconds(growth.end)} ms, there at ${milliseconds(growth.arrived)} ms`;
  const checked = step ? `, checked ${milliseconds(step.start)} to ${milliseconds(step.end)} ms` : "";
  const after = way.length ? [`after ${way.join("  ")}`] : [];
  return [`${word(token)} guessed by ${who.join(" and ")}`, ...after, BECAME[fate], times + checked];
}

/** Nodes by what became of them, each with what its drafter gave it. */
function named(nodes, word) {
  return FATES.flatMap(([name, fate]) => {
    const alike = nodes.filter((node) => node.fate === fate);
    if (!alike.length) return [];
    const words = alike.slice(0, MOST_NAMED).map((node) => `${word(node.token)} ${estimate(Math.max(...node.scores))}`);
    if (alike.length > MOST_NAMED) words.push(`and ${alike.length - MOST_NAMED} more`);
    return [`${name}: ${words.join("  ")}`];
  });
}

/** A drafter's estimate that a node is accepted if the one before it is. */
function estimate(score) {
  const percent = 100 * Math.exp(score);
  return percent > 0 && percent < 1 ? "< 1 %" : `${Math.round(percent)} %`;
}
