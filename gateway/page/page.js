// The page at `/`: asks for completions, shows the text and its strip, and what they cost.

import { Answer } from "./answer.js";
import { complete, models, Problem, setKey, workers } from "./gateway.js";
import { Strip } from "./strip.js";

const WORKERS_EVERY_MS = 2000;
const SAY_EVERY_MS = 5000;
const EXAMPLE = 'def read_lines(path, encoding="utf-8"):\n    """Return the lines of a file."""\n';

const at = (id) => document.getElementById(id);
const strip = new Strip(at("strip"), { text: (id) => answer.texts.get(id) });
const answer = new Answer(at("answer"), at("legend"), strip.slotOf);
let running = null; // the AbortController of the answer that is coming
let known = []; // workers, as they were last heard of
let told = null; // tokens per step, as the gateway says at the end
let frame = null; // in which the numbers will be shown
let spoken = 0; // when those who listen last heard of the answer
let breaks = 0; // after which the answer went on
let clock = { asked: 0, first: 0, last: 0, firstTokens: 0 };

// -- asking -----------------------------------------------------------------------------------------------------------

async function generate() {
  if (running || !at("ask").reportValidity()) return;
  running = new AbortController();
  begin();
  try {
    for await (const chunk of complete(request(), running.signal, goOn)) take(chunk);
    finish("Done");
  } catch (error) {
    if (error.name === "AbortError") return finish("Stopped");
    finish("Broken off");
    tell(error);
    if (!(error instanceof Problem)) throw error;
  } finally {
    running = null;
    at("go").disabled = false;
    at("stop").disabled = true;
    at("answer").setAttribute("aria-busy", "false");
  }
}

function request() {
  const value = (id) => at(id).value;
  return {
    model: value("model"),
    prompt: value("prompt"),
    max_tokens: Number(value("max_tokens")),
    temperature: Number(value("temperature")),
    ...(value("seed") === "" ? {} : { seed: Number(value("seed")) }),
    stream: true,
    stream_options: { include_usage: true },
    speculation: { mode: value("mode"), shape: value("shape"), events: true },
  };
}

function begin() {
  tell(null);
  strip.clear();
  answer.begin(at("prompt").value);
  clock = { asked: performance.now(), first: 0, last: 0, firstTokens: 0 };
  [spoken, told, breaks] = [performance.now(), null, 0];
  at("go").disabled = true;
  at("stop").disabled = false;
  at("answer").setAttribute("aria-busy", "true");
  at("status").textContent = "Generating";
  showNumbers();
}

function take(chunk) {
  const { tokens = [], events = [] } = chunk.speculation ?? {};
  const text = chunk.choices?.[0]?.text ?? "";
  if (tokens.length) answer.add(tokens);
  else answer.addText(text);
  strip.add(events);
  if (tokens.length) {
    clock.last = performance.now();
    if (!clock.first) [clock.first, clock.firstTokens] = [clock.last, answer.tokens];
  }
  told = chunk.metrics?.speculative_decoding?.mean_acceptance_length ?? told;
  frame ??= requestAnimationFrame(showNumbers);
  sayProgress();
}

function goOn(problem) {
  breaks += 1;
  strip.record.goOn();
  spoken = performance.now();
  at("status").textContent = `Trying to go on. ${problem.message}`;
}

/** For those who listen: a word now and then, not every token. */
function sayProgress() {
  if (performance.now() - spoken < SAY_EVERY_MS) return;
  spoken = performance.now();
  at("status").textContent = `${answer.tokens} tokens so far`;
}

function finish(how) {
  const share = answer.tokens ? Math.round((100 * answer.guessed) / answer.tokens) : 0;
  const rate = speed();
  const parts = [`${how}: ${answer.tokens} ${answer.tokens === 1 ? "token" : "tokens"}`];
  if (answer.tokens) parts.push(`${share} % of them guessed by drafters`);
  if (rate) parts.push(`${rate.toFixed(1)} tokens per second`);
  if (breaks) parts.push(`the connection broke ${breaks === 1 ? "once" : `${breaks} times`}`);
  showNumbers();
  at("status").textContent = `${parts.join(", ")}.`;
}

function tell(problem) {
  for (const input of at("ask").elements) input.removeAttribute("aria-invalid");
  at("problem").hidden = !problem;
  at("problem").textContent = problem?.message ?? "";
  if (!problem) return;
  const field = problem.field?.split(".").at(-1);
  if (field && at("ask").elements[field]) at("ask").elements[field].setAttribute("aria-invalid", "true");
  if (problem.status === 401) askForKey();
}

// -- numbers ----------------------------------------------------------------------------------------------------------

/** Tokens per second after the first ones; 0 before anything is known. */
function speed() {
  const seconds = (clock.last - clock.first) / 1000;
  return seconds > 0 ? (answer.tokens - clock.firstTokens) / seconds : 0;
}

/** Of the verifier and the drafters that took part, per hour; 0 where no prices are set. */
function pricePerHour() {
  const serves = ({ role, healthy, model }) => role === "verifier" && healthy && model === at("model").value;
  const verifier = known.find(serves);
  const drafting = new Set(strip.record.acceptance().map(({ name }) => name));
  const took = known.filter((worker) => worker === verifier || (worker.role === "drafter" && drafting.has(worker.id)));
  return took.reduce((sum, worker) => sum + (worker.price_per_hour ?? 0), 0);
}

function showNumbers() {
  frame = null;
  const rate = speed(), price = pricePerHour(), { emitted, steps } = strip.record;
  const length = told ?? (steps.length ? emitted / steps.length : 0);
  at("speed").textContent = rate ? rate.toFixed(1) : "–";
  at("dollars").textContent = !price ? "n/a" : rate ? `$${((price / 3600 / rate) * 1e6).toFixed(2)}` : "–";
  at("length").textContent = length ? length.toFixed(2) : "–";
  at("first").textContent = clock.first ? `${Math.round(clock.first - clock.asked)} ms` : "–";
  at("acceptance").replaceChildren(...strip.record.acceptance().map(acceptanceRow));
}

function acceptanceRow({ name, verified, accepted }) {
  const drafter = document.createElement("span");
  drafter.className = `token by-${strip.slotOf(name)}`;
  drafter.textContent = name;
  const share = verified ? accepted / verified : 0;
  const meter = document.createElement("meter");
  meter.value = share;
  meter.setAttribute("aria-hidden", "true");
  const rate = [meter, verified ? `${Math.round(100 * share)} %` : "–"];
  return row([[drafter]], [accepted, "number"], [verified, "number"], [rate, "rate"]);
}

function row(...cells) {
  const line = document.createElement("tr");
  for (const [content, kind = ""] of cells) {
    const cell = document.createElement("td");
    cell.className = kind;
    cell.append(...(Array.isArray(content) ? content : [content]));
    line.append(cell);
  }
  return line;
}

// -- workers and models -----------------------------------------------------------------------------------------------

async function connect() {
  try {
    const served = await models();
    at("model").replaceChildren(...served.map((model) => new Option(model.id, model.id)));
    at("max_tokens").max = Math.max(...served.map((model) => model.max_model_len ?? 0)) || "";
    at("key-form").hidden = true;
    tell(null);
    await lookAtWorkers();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    state("lost", error.status === 401 ? "needs a key" : "not reached");
    tell(error);
    return false;
  }
}

async function lookAtWorkers() {
  known = await workers();
  const kinds = ["drafter", "verifier"].map((role) => known.filter((worker) => worker.role === role));
  for (const drafter of kinds[0]) strip.slotOf(drafter.id);
  const healthy = known.filter((worker) => worker.healthy).length;
  state(kinds[1].some((worker) => worker.healthy) ? "serving" : "lost", `${healthy} of ${known.length} workers serve`);
  at("workers").replaceChildren(...[...kinds[1], ...kinds[0]].map(workerRow));
}

function workerRow(worker) {
  const price = worker.price_per_hour ? worker.price_per_hour.toFixed(2) : "n/a";
  const sessions = worker.max_sessions ? `${worker.sessions} / ${worker.max_sessions}` : `${worker.sessions}`;
  const kind = worker.role === "verifier" ? "verifier" : `${worker.kind} drafter`;
  const name = document.createElement("span");
  name.className = worker.healthy ? "healthy" : "unhealthy";
  name.textContent = worker.healthy ? worker.id : `${worker.id} (away)`;
  return row([[name]], [kind], [sessions, "number"], [price, "number"]);
}

async function watchWorkers() {
  if (document.visibilityState !== "visible") return;
  if (!at("key-form").hidden) return;
  if (!at("model").options.length) return void (await connect());
  try {
    await lookAtWorkers();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    state("lost", "not reached");
    if (error.status === 401) tell(error);
  }
}

function state(name, words) {
  at("state").dataset.state = name;
  if (at("state").textContent !== words) at("state").textContent = words;
}

// -- the key ----------------------------------------------------------------------------------------------------------

function askForKey() {
  at("key-form").hidden = false;
  at("key").value = "";
  at("key").focus();
}

at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setKey(at("key").value.trim());
  if (await connect()) at("prompt").focus();
});

// -- keys and buttons -------------------------------------------------------------------------------------------------

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
at("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && at("key-form").hidden) generate();
});
document.addEventListener("visibilitychange", watchWorkers);
addEventListener("pagehide", () => running?.abort());

at("prompt").value = EXAMPLE;
connect();
setInterval(watchWorkers, WORKERS_EVERY_MS);
