// The instant provider: a raw HTTP/1.1 responder on `net`, so that the workers in front of it are what is measured.
//
// It parses just enough of HTTP to find where a request ends, and answers from buffers made at the start:
//   POST /v1/chat/completions       one chat completion
//   POST /sse/v1/chat/completions   the same as EVENTS server-sent events, one every millisecond and one write each
//   GET  /count                     how many answers were given, as JSON
// It prints its port and lives until it is killed.
import net from 'node:net';

const EVENTS = 100;

const HEAD_END = Buffer.from('\r\n\r\n');
const LAST_CHUNK = Buffer.from('0\r\n\r\n');

// What a provider really sends along; the workers must carry or drop these.
const PROVIDER_HEADERS = [
  'date: Tue, 14 Apr 2026 09:26:53 GMT',
  'openai-organization: org-bench',
  'openai-processing-ms: 412',
  'openai-version: 2020-10-01',
  'x-ratelimit-limit-requests: 10000',
  'x-ratelimit-limit-tokens: 2000000',
  'x-ratelimit-remaining-requests: 9999',
  'x-ratelimit-remaining-tokens: 1999712',
  'x-ratelimit-reset-requests: 6ms',
  'x-ratelimit-reset-tokens: 8ms',
  'x-request-id: req_5f0c2c7a9b1d4e63a8f0b1c2d3e4f506',
  'strict-transport-security: max-age=31536000; includeSubDomains; preload',
];

const REPLY =
  'A write-ahead log is a file that a storage engine appends to before it touches anything else. Each change is ' +
  'written there first and flushed, so that after a crash the engine can read the log from its last checkpoint and ' +
  'apply again whatever had not yet reached the tables. Appending is sequential, hence cheap; the tables are then ' +
  'updated at leisure, many changes at a time. Readers may go on using the old pages meanwhile. The price is that ' +
  'every change is written twice, and that the log must be cut from time to time.';

const USAGE = {
  prompt_tokens: 214,
  completion_tokens: 104,
  total_tokens: 318,
  prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
};

const envelope = object => ({
  id: 'chatcmpl-BMd3yVvQ8mZkqf0yqT2i9sX7hPzLw',
  object,
  created: 1776158813,
  model: 'gpt-4o-mini-2024-07-18',
  service_tier: 'default',
  system_fingerprint: 'fp_129a36352a',
});

function answer(status, type, body, headers = []) {
  const head = [`HTTP/1.1 ${status}`, `content-type: ${type}`, `content-length: ${Buffer.byteLength(body)}`, ...headers];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
}

function completion() {
  const choice = { index: 0, message: { role: 'assistant', content: REPLY, refusal: null, annotations: [] }, logprobs: null, finish_reason: 'stop' };
  return answer('200 OK', 'application/json', JSON.stringify({ ...envelope('chat.completion'), choices: [choice], usage: USAGE }), PROVIDER_HEADERS);
}

/** EVENTS buffers, each one HTTP chunk: the deltas, the usage, the end mark (which also ends the body). */
function events() {
  const words = REPLY.split(' ');
  const delta = (delta, finish_reason = null) => ({ ...envelope('chat.completion.chunk'), choices: [{ index: 0, delta, logprobs: null, finish_reason }] });
  const frames = [delta({ role: 'assistant', content: '' })];
  while (frames.length < EVENTS - 3) frames.push(delta({ content: ` ${words[frames.length % words.length]}` }));
  frames.push(delta({}, 'stop'), { ...envelope('chat.completion.chunk'), choices: [], usage: USAGE });
  const texts = [...frames.map(frame => JSON.stringify(frame)), '[DONE]'].map(data => `data: ${data}\n\n`);
  const chunks = texts.map(text => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
  chunks[chunks.length - 1] += LAST_CHUNK;
  return chunks.map(chunk => Buffer.from(chunk));
}

const COMPLETION = completion();
const FRAMES = events();
const STREAM_HEAD = Buffer.from(
  ['HTTP/1.1 200 OK', 'content-type: text/event-stream; charset=utf-8', 'transfer-encoding: chunked', ...PROVIDER_HEADERS].join('\r\n') + '\r\n\r\n',
);

let answered = 0;
const streams = new Map(); // socket → next frame

// One clock for all streams: an event each, a millisecond apart, so that a reader that keeps up sees them one by one.
setInterval(() => {
  for (const [socket, next] of streams) {
    socket.write(FRAMES[next]);
    if (next + 1 < FRAMES.length) streams.set(socket, next + 1);
    else streams.delete(socket);
  }
}, 1);

function reply(socket, head) {
  if (head.startsWith('GET /count')) return socket.write(answer('200 OK', 'application/json', JSON.stringify({ answered })));
  answered += 1;
  if (!head.startsWith('POST /sse/')) return socket.write(COMPLETION);
  socket.write(STREAM_HEAD);
  streams.set(socket, 0);
}

/** Where the request that starts `buffer` ends, or -1 if more must come. */
function requestEnd(buffer, head, bodyStart) {
  const length = /\r\ncontent-length: *(\d+)/i.exec(head);
  if (length) return bodyStart + Number(length[1]);
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return bodyStart;
  const last = buffer.indexOf(LAST_CHUNK, bodyStart);
  return last < 0 ? Infinity : last + LAST_CHUNK.length;
}

const server = net.createServer({ noDelay: true }, socket => {
  let pending = null;
  socket.on('data', data => {
    let buffer = pending ? Buffer.concat([pending, data]) : data;
    pending = null;
    while (buffer.length) {
      const headEnd = buffer.indexOf(HEAD_END);
      const head = headEnd < 0 ? '' : buffer.latin1Slice(0, headEnd);
      const end = headEnd < 0 ? Infinity : requestEnd(buffer, head, headEnd + HEAD_END.length);
      if (end > buffer.length) {
        pending = buffer;
        return;
      }
      reply(socket, head);
      buffer = buffer.subarray(end);
    }
  });
  socket.on('error', () => {}); // a client that left is no event here
  socket.on('close', () => streams.delete(socket));
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
