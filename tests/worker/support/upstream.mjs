// A provider that does what it is told and keeps its own log, so that what the gateway says can be held against what
// really happened. Everything before `/v1/` in a request's path is its *key*: each key has its own script and log.
//
//   upstream.on('case-7/a', status(500), json({ ok: true }))   first request 500, second and later ones 200
//   upstream.base('case-7/a')                                   the custom_host to configure
//   upstream.requests('case-7')                                 what arrived for that key and all keys below it
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * One answer: `delay` ms of silence, a head, then `pieces` with `gap` ms between them, then an ending:
 * `end` (a clean one), `reset` (the socket is destroyed) or `stall` (nothing more, ever).
 * `head: false` means there is no head either: with `stall` it never answers, with `reset` it hangs up.
 * `whole: false` is for the log: these pieces, cleanly ended, are not a whole answer.
 */
const ANSWER = { delay: 0, head: true, status: 200, headers: {}, pieces: [], gap: 0, ending: 'end', whole: true };

export const bytes = (pieces, options = {}) => ({ ...ANSWER, ...options, pieces: [pieces].flat().map(piece => Buffer.from(piece)) });
export const json = (body, options = {}) =>
  bytes(typeof body === 'string' ? body : JSON.stringify(body), { ...options, headers: { 'content-type': 'application/json', ...options.headers } });
export const status = (code, options = {}) => json({ error: { message: `upstream says ${code}`, type: 'upstream_error', param: null, code: `e${code}` } }, { ...options, status: code });
export const never = () => ({ ...ANSWER, head: false, ending: 'stall' });
export const reset = (options = {}) => ({ ...ANSWER, ...options, head: false, ending: 'reset' });
/** Promises `length` bytes, sends fewer and hangs up. */
export const resetInBody = (text = '{"id":"half', length = 1000) => json(text, { headers: { 'content-length': String(length) }, ending: 'reset' });
/** `events` are whole pieces of the stream: `data: …\n\n`. */
export const sse = (events, options = {}) => bytes(events, { ...options, headers: { 'content-type': 'text/event-stream; charset=utf-8', ...options.headers } });

export async function startUpstream() {
  const scripts = new Map();
  const log = [];

  const server = http.createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, async (request, response) => {
    const key = keyOf(request.url);
    const entry = {
      key,
      at: Date.now(),
      method: request.method,
      path: request.url,
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      body: Buffer.alloc(0),
      /** What the client was shown: a status, `reset`, or `none` when it left before any head. */
      outcome: 'none',
      /** Whether the client was sent a whole answer. */
      whole: false,
      /** When each piece was handed to the socket. */
      sentAt: [],
      finishedAt: null,
      /** When the client's side closed although the answer was not finished; null while it has not. */
      abandonedAt: null,
    };
    log.push(entry);
    // Which answer a request gets is settled at its arrival, whatever the sizes of the bodies.
    const answer = nextAnswer(key);
    const left = new AbortController();
    response.on('close', () => {
      if (response.writableFinished) return;
      if (entry.outcome !== 'reset' && !entry.hungUp) entry.abandonedAt = Date.now();
      left.abort();
    });
    try {
      const body = [];
      for await (const chunk of request) body.push(chunk);
      entry.body = Buffer.concat(body);
      await play(typeof answer === 'function' ? answer(entry) : answer, entry, request, response, left.signal);
    } catch (error) {
      if (!left.signal.aborted) entry.problem = error;
    }
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const origin = `http://127.0.0.1:${server.address().port}`;

  function nextAnswer(key) {
    const script = scripts.get(key);
    if (!script) return status(599);
    return script.length > 1 ? script.shift() : script[0];
  }

  return {
    origin,
    base: key => `${origin}/${key}/v1`,
    /** The n-th request for `key` gets the n-th answer; the last one is for all that follow. */
    on(key, ...answers) {
      scripts.set(key, answers);
      return this;
    },
    requests: key => (key === undefined ? log : log.filter(entry => entry.key === key || entry.key.startsWith(`${key}/`))),
    log,
    async stop() {
      server.closeAllConnections();
      await new Promise(done => server.close(done));
    },
  };
}

function keyOf(path) {
  const end = path.indexOf('/v1/');
  return end < 0 ? path.slice(1) : path.slice(1, end);
}

async function play(answer, entry, request, response, left) {
  if (answer.delay) await sleep(answer.delay, undefined, { signal: left });
  if (!answer.head) return answer.ending === 'reset' ? hangUp(entry, request, 'reset') : undefined;
  response.writeHead(answer.status, answer.headers);
  response.flushHeaders();
  entry.outcome = answer.status;
  for (const [index, piece] of answer.pieces.entries()) {
    if (index && answer.gap) await sleep(answer.gap, undefined, { signal: left });
    if (left.aborted) return;
    entry.sentAt.push(Date.now());
    if (!response.write(piece)) await new Promise(go => response.once('drain', go).once('close', go));
  }
  if (answer.ending === 'stall') return;
  if (answer.ending === 'reset') {
    // A plain close, not a TCP reset: a reset would take back what the other side has not read yet.
    return hangUp(entry, request, entry.outcome, () => request.socket.end(() => request.socket.destroy()));
  }
  entry.whole = answer.whole;
  response.end(() => (entry.finishedAt = Date.now()));
}

function hangUp(entry, request, outcome, how = () => request.socket.resetAndDestroy()) {
  entry.outcome = outcome;
  entry.hungUp = true;
  how();
}

/** A port on which nobody listens. */
export async function refusingPort() {
  const server = http.createServer();
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise(done => server.close(done));
  return port;
}

// ---- what OpenAI would say ----------------------------------------------------------------------------------------------

export const USAGE = { prompt_tokens: 1000, completion_tokens: 200, total_tokens: 1200 };

export function chat(text = 'pong', { model = 'gpt-4o-mini-2024-07-18', usage = USAGE, id = 'chatcmpl-1' } = {}) {
  return {
    id,
    object: 'chat.completion',
    created: 1700000000,
    model,
    choices: [{ index: 0, message: { role: 'assistant', content: text, refusal: null }, logprobs: null, finish_reason: 'stop' }],
    usage,
  };
}

/** The same answer as a stream: role, one event a word, finish reason, usage if given, terminator. */
export function chatEvents(text = 'one two three', { model = 'gpt-4o-mini-2024-07-18', usage = USAGE, id = 'chatcmpl-1', done = true } = {}) {
  const chunk = (choices, more = {}) => `data: ${JSON.stringify({ id, object: 'chat.completion.chunk', created: 1700000000, model, choices, ...more })}\n\n`;
  const delta = (delta, finish_reason = null) => chunk([{ index: 0, delta, finish_reason }]);
  return [
    delta({ role: 'assistant', content: '' }),
    ...text.split(/(?<= )/).map(content => delta({ content })),
    delta({}, 'stop'),
    ...(usage ? [chunk([], { usage })] : []),
    ...(done ? ['data: [DONE]\n\n'] : []),
  ];
}

// ---- what Anthropic would say -------------------------------------------------------------------------------------------

export function message(text = 'pong', { model = 'claude-sonnet-4-5', usage = { input_tokens: 9, output_tokens: 6 }, id = 'msg_1' } = {}) {
  return { id, type: 'message', role: 'assistant', model, content: [{ type: 'text', text }], stop_reason: 'end_turn', stop_sequence: null, usage };
}

export const event = data => `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

/** The same message as a stream: start, one delta a word, stop reason, terminator. */
export function messageEvents(text = 'one two three', { done = true, ...options } = {}) {
  const { usage, ...start } = message('', options);
  return [
    event({ type: 'message_start', message: { ...start, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } } }),
    event({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
    ...text.split(/(?<= )/).map(word => event({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: word } })),
    event({ type: 'content_block_stop', index: 0 }),
    event({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage: { output_tokens: usage.output_tokens } }),
    ...(done ? [event({ type: 'message_stop' })] : []),
  ];
}
