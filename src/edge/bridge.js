// The few things that must not run in wasm, each because a measurement or a fact says so:
// - work per stream chunk (a Rust loop costs five times the CPU; cloudflare facts §2.7),
// - what has to survive a Rust panic, which takes every pending Rust future of the isolate with it: the end of a stream
//   on its way to a caller, and finished records that wait for the queue,
// - a sequence of platform calls that would otherwise cost one promise hop into wasm each.
// It decides nothing: every limit, text and verdict comes from Rust.

// ---- Rust futures ------------------------------------------------------------------------------------------------

/** The way into the current wasm instance. After a panic a new instance brings a new one. */
let door = null;
let shut = new WeakSet();

export function install(enter) {
  door = enter;
}

/** As `drive`, for a request: it runs to its end even if its caller leaves, so that the record of the call is made. */
export function serve(ctx, id, promise) {
  const answer = drive(id, promise);
  ctx.waitUntil(answer);
  return answer;
}

/** Runs the Rust future `id` to its end: it is told what each promise gave, and answers with the next, `[value]`, or null when it is gone. */
export async function drive(id, promise) {
  const enter = door;
  for (;;) {
    let value, failed = false;
    try {
      value = await promise;
    } catch (error) {
      value = error;
      failed = true;
    }
    if (enter !== door || shut.has(enter)) return fallen();
    try {
      promise = enter(id, value, failed);
    } catch (error) {
      shut.add(enter);
      reportError(error); // the shim of worker-build hears it, and makes a new instance for the next request
      return fallen();
    }
    if (promise === null) return fallen();
    if (Array.isArray(promise)) return promise[0];
  }
}

/** What a caller gets whose call was lost with its instance. */
function fallen() {
  const message = "Something went wrong inside the gateway.";
  const error = { message, type: "server_error", param: null, code: "internal_error" };
  return Response.json({ status: "failure", message, error }, { status: 500, headers: { "x-portkey-gateway-exception": "true" } });
}

// ---- requests in -------------------------------------------------------------------------------------------------

/** Method, URL and all headers as one text of lines: one crossing instead of one a header. */
export function requestHead(request) {
  let text = request.method + "\n" + request.url + "\n";
  request.headers.forEach((value, name) => { text += name + "\n" + value + "\n"; }); // half the cost of an iterator
  return text;
}

/** The body as an ArrayBuffer; null when it is longer than `limit`, which is only watched if its length was not announced. */
export function readBody(request, limit, announced) {
  return announced || !request.body ? request.arrayBuffer() : readCounted(request, limit);
}

async function readCounted(request, limit) {
  const chunks = [];
  let total = 0;
  for (const reader = request.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return join(chunks, total).buffer;
    total += value.length;
    if (total > limit) {
      await reader.cancel();
      return null;
    }
    chunks.push(value);
  }
}

/** All text bindings of the environment as lines of name and JSON-quoted value. */
export function textBindings(env) {
  let text = "";
  for (const name in env) if (typeof env[name] === "string") text += name + "\n" + JSON.stringify(env[name]) + "\n";
  return text;
}

// ---- answers out -------------------------------------------------------------------------------------------------

/** Hop-by-hop, or no longer true once the platform has decoded the body; and what only the gateway may say. */
const NOT_FORWARDED = [
  "connection", "content-encoding", "content-length", "keep-alive", "proxy-authenticate", "trailer", "transfer-encoding", "upgrade",
  "x-portkey-gateway-exception", "x-portkey-last-used-option-params",
];

/**
 * An answer: an upstream's headers (if any) under ours. `body` null takes the upstream's own buffer or stream. The platform
 * copies the upstream's headers in one go, for less than a walk over them costs.
 */
export function respond(status, ours, upstream, body) {
  const bodyless = status === 204 || status === 205 || status === 304;
  if (!upstream) return new Response(bodyless ? null : body, { status, headers: record(ours) });
  const response = new Response(bodyless ? null : (body ?? upstream.buffer ?? upstream.stream), { status, headers: upstream.headers });
  const { headers } = response;
  for (const name of NOT_FORWARDED) if (headers.has(name)) headers.delete(name);
  const lines = ours.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) headers.set(lines[i], lines[i + 1]);
  return response;
}

// ---- requests out ------------------------------------------------------------------------------------------------

const ANSWERED = 0, TIMEOUT = 1, CONNECT = 2, CLIENT_GONE = 3;

/** What the core looks at in an upstream's answer, or keeps with the log. */
const LOOKED_AT = [
  "content-type", "retry-after", "retry-after-ms", "x-ms-retry-after-ms", "request-id", "x-request-id", "cf-ray", "location",
  "openai-processing-ms", "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens",
];

/** One upstream request: everything up to the whole body, or to the headers of an event stream, in one promise. */
export async function exchange(url, method, flat, body, timeout, signal, script) {
  const result = { kind: ANSWERED, status: 0, head: "", at: 0, message: "", headers: null, buffer: null, stream: null };
  if (signal.aborted) return failed(result, CLIENT_GONE);
  let timedOut = false, timer = 0, abort = signal;
  if (timeout > 0) {
    const own = new AbortController();
    timer = setTimeout(() => { timedOut = true; own.abort(); }, timeout);
    abort = AbortSignal.any([signal, own.signal]);
  }
  try {
    const response = script ? await play(JSON.parse(script), abort) : await fetch(url, { method, headers: record(flat), body, redirect: "manual", signal: abort });
    if (timer) clearTimeout(timer);
    result.status = response.status;
    result.at = Date.now();
    const { headers } = response;
    result.headers = headers;
    for (const name of LOOKED_AT) {
      const value = headers.get(name);
      if (value !== null) result.head += name + "\n" + value + "\n";
    }
    if (result.head.startsWith("content-type\ntext/event-stream") && response.ok && response.body) result.stream = response.body;
    else result.buffer = await response.arrayBuffer();
  } catch (error) {
    if (timer) clearTimeout(timer);
    return failed(result, timedOut ? TIMEOUT : signal.aborted ? CLIENT_GONE : CONNECT, String(error?.message ?? error));
  }
  return result;
}

function failed(result, kind, message = "") {
  result.kind = kind;
  result.message = message;
  return result;
}

function record(flat) {
  const lines = flat.split("\n"), out = {};
  for (let i = 0; i + 1 < lines.length; i += 2) out[lines[i]] = lines[i + 1];
  return out;
}

/** Plays a script of the mock provider. */
async function play(script, signal) {
  if (script.first_byte) await sleep(script.first_byte, signal);
  const pieces = script.chunks.map((piece) => new TextEncoder().encode(piece));
  let at = 0;
  const body = new ReadableStream({
    async pull(controller) {
      if (at > 0 && script.gap) await sleep(script.gap, signal);
      if (at < pieces.length) controller.enqueue(pieces[at++]);
      else if (script.cut) controller.error(new Error("the mock provider broke the connection"));
      else controller.close();
    },
  });
  return new Response(body, { status: script.status, headers: script.headers });
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/** Lets go of an answer that nobody will read. */
export function discard(upstream) {
  upstream.stream?.cancel().catch(() => {});
}

export function wait(ms) {
  return sleep(ms);
}

// ---- streams on their way ----------------------------------------------------------------------------------------

const CLOSED = 0, RESET = 1, STALLED = 2, GONE = 3;
/** Bytes of a stream that are kept for the record; beyond it only the tail is, where the usage is (CF-12). */
const KEPT = 4 << 20, KEPT_TAIL = 64 << 10;
/** How long Rust may take to record a finished stream before this side does. */
const GUARD_MS = 100;

/**
 * A stream that passes to the caller. Its end is held back until Rust says what the last words are; if Rust is gone (a
 * panic elsewhere in the isolate), the guard closes the stream honestly and sends the record itself.
 *
 * A loop moves the chunks, not a native pipe: when its source fails, `pipeTo` breaks the caller's side too, whatever
 * `preventAbort` says, and the platform then ends the answer as if it were whole (docs/adr/0005).
 */
class Passing {
  constructor(env, ctx, upstream, signal, idle, terminator, lastWords, guard, push) {
    Object.assign(this, { env, ctx, upstream, signal, idle, terminator, lastWords, guard, push });
    const { readable, writable } = new IdentityTransformStream();
    this.readable = readable;
    this.writer = writable.getWriter();
    this.kept = [];
    this.keptBytes = 0;
    this.total = 0;
    this.first = 0;
    this.ended = 0;
    this.end = CLOSED;
    this.started = Date.now();
    this.recorded = false;
    this.closed = null;
    this.door = door;
    this.reader = upstream.stream.getReader();
    this.passed = this.run().then(() => { this.ended = Date.now(); });
    ctx.waitUntil(this.passed.then(() => this.watchRust()));
  }

  async run() {
    // Since when the upstream is waited for; 0 while it is the caller who is slow.
    let since = 0;
    const watchdog = setInterval(() => { if (since && Date.now() - since > this.idle) this.stop(STALLED); }, Math.max(this.idle / 4, 10));
    const gone = () => this.stop(GONE);
    this.signal.addEventListener("abort", gone);
    try {
      for (;;) {
        let read;
        since = Date.now();
        try {
          read = await this.reader.read();
        } catch {
          if (this.end === CLOSED) this.end = this.signal.aborted ? GONE : RESET;
          return;
        }
        if (read.done) return;
        since = 0;
        this.keep(read.value);
        let out = read.value;
        if (this.push) {
          // Rust is gone, or another instance has taken its place: the guard speaks for it.
          if (this.door !== door || shut.has(door)) return this.stop(RESET);
          try {
            out = this.push(out);
          } catch {
            return this.stop(RESET);
          }
        }
        try {
          if (out.length) await this.writer.write(out);
        } catch {
          return this.stop(GONE);
        }
      }
    } finally {
      clearInterval(watchdog);
      this.signal.removeEventListener("abort", gone);
    }
  }

  /** Lets go of the upstream; a pending read ends. */
  stop(why) {
    if (this.end === CLOSED) this.end = why;
    this.reader.cancel().catch(() => {});
  }

  keep(chunk) {
    this.first ||= Date.now();
    this.total += chunk.length;
    this.kept.push(chunk);
    this.keptBytes += chunk.length;
    while (this.keptBytes > KEPT + KEPT_TAIL && this.kept.length > 2) {
      this.keptBytes -= this.kept.splice(this.kept.length >> 1, 1)[0].length;
    }
  }

  bytes() {
    return join(this.kept, this.keptBytes);
  }

  /** Rust has built its record: the guard stands down. False when the guard was faster. */
  claim() {
    if (this.recorded) return false;
    this.recorded = true;
    clearTimeout(this.timer);
    this.standDown?.();
    return true;
  }

  /** Sends the last words, if any, and closes the caller's side. */
  close(lastWords) {
    return (this.closed ??= (async () => {
      try {
        if (lastWords?.length) await this.writer.write(lastWords);
        await this.writer.close();
      } catch { /* the caller has left */ }
    })());
  }

  async watchRust() {
    if (this.recorded) return this.closed;
    await new Promise((resolve) => {
      this.standDown = resolve;
      this.timer = setTimeout(resolve, GUARD_MS);
    });
    if (this.recorded) return this.closed;
    this.recorded = true;
    const raw = new TextDecoder().decode(this.bytes());
    const whole = this.end === CLOSED && raw.trimEnd().endsWith(this.terminator);
    await this.close(whole || this.end === GONE ? null : this.lastWords);
    const end = ["closed", "reset", "stalled", "client_gone"][this.end];
    const seen = JSON.stringify({ raw: raw.slice(-RAW_LIMIT), end, started: this.started, first: this.first || null, ended: this.ended, bytes: this.total });
    commit(this.env, this.ctx, this.guard + "," + seen.slice(1) + "}", (this.guard.length + seen.length) * 3);
  }
}

/** Lets a stream pass; `push` (or null) is what each chunk goes through. */
export function pass(env, ctx, upstream, signal, idle, terminator, lastWords, guard, push) {
  return new Passing(env, ctx, upstream, signal, idle, terminator, lastWords, guard, push);
}

function join(chunks, total) {
  if (chunks.length === 1) return chunks[0];
  const all = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

// ---- records out: group commit -----------------------------------------------------------------------------------

/** Characters of raw stream text that a guard record may carry; a message ends at 128,000 bytes. */
const RAW_LIMIT = 30_000;
/** Bytes a message is filled to, and bytes of one sendBatch (cloudflare facts §1.2, CF-16). */
const MESSAGE_BYTES = 60_000, BATCH_BYTES = 240_000, BATCH_MESSAGES = 90;
/** The request that flies for all may do so this long (its waitUntil ends after 30 s); a send without an answer for this long is lost. */
const FLIGHT_MS = 10_000;
/** A send costs as much as a quarter of a call; a moment's patience lets the calls that end together share one message. */
const GATHER_MS = 5;

let waiting = [];
let flight = null;
let refused = null;

/** Who takes the records that the queue refuses: called with the messages, returns a promise. Set once an instance. */
export function onRefused(handler) {
  const mine = door;
  refused = (messages, reason) => (mine === door ? handler(messages, reason) : console.error("spangate: records lost with their instance", reason));
}

/**
 * Hands a record to the queue. While one send is under way, finished records gather for the next. Only the request that
 * starts a flight waits for it: waiting for another request's promise costs more than the send. A flight that lasts too
 * long, or whose request is gone, is taken over by the next record; what it may have sent already is sent again, which
 * the consumer does not mind. Plain text only is shared between requests.
 */
export function commit(env, ctx, record, bytes) {
  waiting.push({ record, bytes });
  if (flight) {
    const now = Date.now();
    if (now - flight.began < FLIGHT_MS) return;
    if (now - flight.sentAt > FLIGHT_MS) waiting = flight.load.concat(waiting);
  }
  const now = Date.now();
  flight = { began: now, sentAt: now, load: [] };
  ctx.waitUntil(fly(env, flight));
}

async function fly(env, mine) {
  while (waiting.length && flight === mine) {
    await sleep(GATHER_MS);
    mine.sentAt = Date.now();
    mine.load = waiting;
    waiting = [];
    for (const group of pack(mine.load)) {
      await send(env.LOGS, group).catch((error) => refused?.(group, String(error?.message ?? error)));
    }
    mine.load = [];
  }
  if (flight === mine) flight = null;
}

async function send(queue, messages) {
  const once = () =>
    messages.length === 1
      ? queue.send(messages[0], { contentType: "text" })
      : queue.sendBatch(messages.map((body) => ({ body, contentType: "text" })));
  return once().catch(() => sleep(75).then(once));
}

/** Records to messages, JSON arrays of at most MESSAGE_BYTES (a larger record alone), and messages to what one sendBatch takes. */
function pack(records) {
  const groups = [];
  let group = [], groupBytes = 0, text = "", textBytes = 0;
  const close = () => {
    if (group.length === BATCH_MESSAGES || groupBytes + textBytes > BATCH_BYTES) {
      groups.push(group);
      group = [];
      groupBytes = 0;
    }
    group.push("[" + text + "]");
    groupBytes += textBytes;
    text = "";
    textBytes = 0;
  };
  for (const { record, bytes } of records) {
    if (text && textBytes + bytes > MESSAGE_BYTES) close();
    text += (text ? "," : "") + record;
    textBytes += bytes + 1;
  }
  close();
  groups.push(group);
  return groups;
}

// ---- records in, and the store -----------------------------------------------------------------------------------

/** A delivered batch as plain values: [queue, id, attempts, text, id, attempts, text, …]; text is null for a body that is no text. */
export function batchParts(batch) {
  const parts = [batch.queue];
  for (const { id, attempts, body } of batch.messages) parts.push(id, attempts, typeof body === "string" ? body : null);
  return parts;
}

/** Acks message `index`, or asks for it again after `delay` seconds. */
export function ack(batch, index) {
  batch.messages[index].ack();
}

export function retry(batch, index, delaySeconds) {
  batch.messages[index].retry({ delaySeconds });
}

/** Rows of one text column. */
export async function select(env, sql, params) {
  const rows = await env.DB.prepare(sql).bind(...params).raw();
  return rows.map((row) => String(row[0]));
}

/** Several statements in one transaction; the rows that each changed. */
export async function write(env, statements) {
  const results = await env.DB.batch(statements.map(([sql, params]) => env.DB.prepare(sql).bind(...params)));
  return results.map((result) => result.meta.changes ?? 0);
}

export async function putObject(env, key, bytes) {
  await env.BODIES.put(key, bytes);
}

export async function getObject(env, key, offset, length) {
  const object = await env.BODIES.get(key, { range: { offset, length } });
  return object ? new Uint8Array(await object.arrayBuffer()) : null;
}
