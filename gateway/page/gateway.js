// The gateway's HTTP interface: requests with the key, errors in words, streamed answers piece by piece.

const KEY = "paceline-api-key";
const AFTER_DONE = "[DONE]";
const RETRIES = 5; // one after the other, with nothing heard between
const FIRST_PAUSE_MS = 250; // and then twice as long each time

/** What went wrong, in words; `status` 401 asks for a key, `field` names what was not accepted, and what is `passing`
 * may be over when one asks again. */
export class Problem extends Error {
  constructor(message, { status = 0, field = null, passing = false } = {}) {
    super(message);
    this.status = status;
    this.field = field;
    this.passing = passing;
  }
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** The models that are served. */
export async function models() {
  return (await (await ask("v1/models")).json()).data;
}

export async function workers() {
  return (await (await ask("v1/workers")).json()).data;
}

/** Yields the chunks of a completion; returns when the answer is whole, throws a Problem when it is not. Where the
 * stream breaks, `onBreak` hears the problem, and the chunks go on after the last one that came. */
export async function* complete(request, signal, onBreak) {
  const last = { id: "" };
  for (let tries = 0; ; tries += 1) {
    try {
      for await (const chunk of stream(request, signal, last)) {
        tries = 0;
        yield chunk;
      }
      return;
    } catch (problem) {
      if (!problem.passing || !last.id || tries === RETRIES) throw problem;
      onBreak(problem);
      await pause(FIRST_PAUSE_MS * 2 ** tries, signal);
    }
  }
}

/** The chunks that come after the event `last.id`, which is kept up to date. */
async function* stream(request, signal, last) {
  const headers = { Accept: "text/event-stream", ...(last.id ? { "Last-Event-ID": last.id } : {}) };
  const response = await ask("v1/completions", { method: "POST", body: JSON.stringify(request), headers, signal });
  try {
    for await (const { data, id = last.id } of serverSentEvents(response.body)) {
      if (data === AFTER_DONE) return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw inWords(0, chunk.error, null);
      last.id = id;
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    if (error instanceof SyntaxError) throw new Problem(`The gateway sent something that is no JSON: ${error.message}`);
  }
  throw new Problem("Connection lost: the answer is not whole.", { passing: true });
}

function pause(milliseconds, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Data and id of each server-sent event of a response's body. */
async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const lines = event.split(/\r?\n/);
        const values = (name) => lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length).trim());
        const data = values("data:");
        if (data.length) yield { data: data.join("\n"), id: values("id:").at(-1) };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have broken already, and that has been told
  }
}

async function ask(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The gateway cannot be reached.", { passing: true });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw inWords(response.status, body.error ?? {}, response.headers.get("Retry-After"), Boolean(key));
}

function inWords(status, error, retryAfter, hadKey = false) {
  const said = error.message ?? `it answered with status ${status}`;
  const kind = { status, field: error.param ?? null, passing: error.code === "unavailable" };
  return new Problem(words(status, error.param, said, { retryAfter, hadKey }), kind);
}

function words(status, field, said, { retryAfter, hadKey }) {
  switch (status) {
    case 0:
      return `The answer broke off: ${said}`;
    case 400:
    case 422:
      return `The request was not accepted. ${field && !said.includes(field) ? `${field}: ` : ""}${said}`;
    case 401:
      return hadKey ? "The gateway does not know this API key." : "This gateway needs an API key.";
    case 429:
      return `The gateway is busy${retryAfter ? `, try again in ${retryAfter} s` : ""}: ${said}`;
    default:
      return `The gateway could not answer: ${said}`;
  }
}
