// The gateway's HTTP interface: requests with the key, errors in words, streamed answers piece by piece.

const KEY = "paceline-api-key";
const AFTER_DONE = "[DONE]";

/** What went wrong, in words; `status` 401 asks for a key, `field` names what was not accepted. */
export class Problem extends Error {
  constructor(message, { status = 0, field = null } = {}) {
    super(message);
    this.status = status;
    this.field = field;
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

/** Yields the chunks of a completion; returns when the answer is whole, throws a Problem when it is not. */
export async function* complete(request, signal) {
  const response = await ask("v1/completions", { method: "POST", body: JSON.stringify(request), signal });
  try {
    for await (const data of serverSentData(response.body)) {
      if (data === AFTER_DONE) return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw inWords(0, chunk.error, null);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    if (error instanceof SyntaxError) throw new Problem(`The gateway sent something that is no JSON: ${error.message}`);
  }
  throw new Problem("Connection lost: the answer is not whole.");
}

/** The data of each server-sent event of a response's body. */
async function* serverSentData(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have broken already, and that has been told
  }
}

async function ask(path, options = {}) {
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The gateway cannot be reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw inWords(response.status, body.error ?? {}, response.headers.get("Retry-After"), Boolean(key));
}

function inWords(status, error, retryAfter, hadKey = false) {
  const said = error.message ?? `it answered with status ${status}`;
  return new Problem(words(status, error.param, said, { retryAfter, hadKey }), { status, field: error.param ?? null });
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
