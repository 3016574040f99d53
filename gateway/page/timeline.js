// A timeline by itself: answers one under the other on one time axis, and what they come to.
//
// The data are in the page: {answers: [{mode, model, started, events, texts, finish, …}, …]}.

import { SessionRecord, summary } from "./record.js";
import { Strip } from "./strip.js";

const WAYS = {
  lockstep: "drafters and verifier take turns",
  overlapped: "drafters go on while the verifier works",
  off: "the target alone",
};
const LONG_SESSION = 8; // characters of a session's id that tell it from others

function show({ answers }) {
  const runs = answers.map((answer) => runOf(answer, answers));
  const strip = new Strip(document.getElementById("strip"));
  strip.render(runs);
  document.getElementById("model").textContent = [...new Set(answers.map(({ model }) => model))].join(", ");
  document.getElementById("numbers").replaceChildren(...tableOf(runs));
}

function runOf({ mode, session, started, events, texts, finish, cut }, all) {
  const record = new SessionRecord({ started });
  for (const event of events) record.add(event);
  if (finish) record.finish(finish);
  const alone = all.filter((other) => other.mode === mode).length === 1;
  const title = alone ? mode : `${mode} ${session.slice(0, LONG_SESSION)}`;
  const sums = summary(record);
  const rate = sums.decoding ? `: ${(sums.tokens / sums.decoding).toFixed(0)} tokens per second` : "";
  const note = `${WAYS[mode] ?? ""}${rate}${cut ? "; not all of it was kept" : ""}`;
  return { title, note, record, sums, finish, text: (id) => texts[id] };
}

function tableOf(runs) {
  const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");
  const rows = [
    ["First token after", ({ finish }) => (finish?.ttft ? seconds(finish.ttft) : "–")],
    ["Decoding after it", ({ sums }) => seconds(sums.decoding)],
    ["Tokens", ({ record }) => record.emitted],
    ["Tokens per second, decoding", ({ sums }) => (sums.decoding ? (sums.tokens / sums.decoding).toFixed(1) : "–")],
    ["Steps", ({ record }) => record.steps.length],
    ["Tokens per step", ({ record }) => (record.steps.length ? (record.emitted / record.steps.length).toFixed(2) : "–")],
    ["Verifier waited, of decoding", ({ sums }) => share(sums.waited, sums.decoding)],
    ["Drafting during a step, of drafting", ({ sums, record }) => (record.lanes.size ? share(sums.overlap, 1) : "–")],
    ["Nodes accepted of those verified", ({ record }) => share(record.accepted, record.verified)],
    ["Ended by", ({ finish }) => finish?.reason ?? "still running"],
  ];
  const cell = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
  const line = (...cells) => {
    const made = document.createElement("tr");
    made.append(...cells);
    return made;
  };
  const [head, body] = ["thead", "tbody"].map((tag) => document.createElement(tag));
  head.append(line(cell("td", ""), ...runs.map(({ title }) => cell("th", title, { scope: "col", className: "number" }))));
  body.append(...rows.map(([name, of]) => line(cell("th", name, { scope: "row" }), ...runs.map((run) => cell("td", of(run), { className: "number" })))));
  return [head, body];
}

function seconds(time) {
  return time < 1 ? `${(time * 1000).toFixed(0)} ms` : `${time.toFixed(2)} s`;
}

show(JSON.parse(document.getElementById("timeline").textContent));
