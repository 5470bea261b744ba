// Streams: the same bytes, at once, and never an end that looks whole when it is not (architecture decision 4, CF-9, CF-14, CF-41).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { attempts, config, QUESTION, request, startGateway, target, to } from './support/gateway.mjs';
import { events } from './support/client.mjs';
import { chatEvents, json, reset, sse, startUpstream, status } from './support/upstream.mjs';

const IDLE = 4000;
const upstream = await startUpstream();
const gateway = await startGateway({ vars: { STREAM_IDLE_TIMEOUT_MS: String(IDLE) } });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const STREAM = { ...QUESTION, stream: true };
const WORDS = 'one two three four five six seven eight nine ten';

async function stream(key, headers = {}, body = STREAM) {
  const response = await gateway.open('/v1/chat/completions', body, to(upstream, key, headers));
  return response.closed();
}

test('the first event is there within 200 ms of being sent, the others as they come', async () => {
  // Each run streams for 1.2 s: an answer that is gathered before it is passed on cannot be early. A loaded machine may
  // spoil a run, so the best of five counts.
  const lags = [];
  for (let run = 0; run < 5; run++) {
    const key = `first-${run}`;
    upstream.on(key, sse(chatEvents(WORDS), { gap: 100 }));
    const response = await stream(key);
    assert.equal(response.status, 200);
    const sent = upstream.requests(key)[0].sentAt;
    lags.push(response.chunks[0].at - sent[0]);
    assert.ok(response.chunks.length > 5, `${response.chunks.length} pieces`);
    const half = sent[Math.floor(sent.length / 2)];
    assert.ok(response.chunks.some(({ at }) => at < half), 'half of the stream was held back');
    if (lags.at(-1) <= 200) break;
  }
  assert.ok(Math.min(...lags) <= 200, `first event after ${lags} ms`);
});

test('the time to the first token is measured, and is not the time of the stream', async () => {
  upstream.on('ttft', sse(chatEvents('a b c'), { delay: 300, gap: 300 }));
  const [attempt] = attempts(await gateway.traceOf(await stream('ttft')));
  assert.ok(attempt.time_to_first_byte_ms >= 298 && attempt.time_to_first_byte_ms <= attempt.time_to_first_token_ms, `${attempt.time_to_first_byte_ms}, ${attempt.time_to_first_token_ms}`);
  assert.ok(attempt.duration_ms >= 300 + 6 * 300 - 2, `${attempt.duration_ms}`);
  assert.ok(attempt.time_to_first_token_ms < attempt.duration_ms - 600);
});

describe('a whole stream', { concurrency: true }, () => {
  test('arrives byte for byte and is recorded', async () => {
    const pieces = chatEvents(WORDS);
    upstream.on('whole', sse(pieces, { gap: 5, headers: { 'x-request-id': 'req_s' } }));
    const response = await stream('whole', { 'x-portkey-trace-id': 'whole-stream' });
    assert.equal(response.text(), pieces.join(''));
    assert.equal(response.complete, true);
    assert.match(response.headers['content-type'], /^text\/event-stream/);
    assert.match(response.headers['cache-control'], /no-transform/);
    assert.deepEqual([response.headers['content-length'], response.headers['x-request-id'], response.headers['x-portkey-trace-id']], [undefined, 'req_s', 'whole-stream']);
    const trace = await gateway.traceOf(response);
    const [attempt] = attempts(trace);
    assert.deepEqual([trace.status, attempt.status, attempt.status_code, attempt.stream, request(trace).stream, attempt.error], ['ok', 'ok', 200, true, true, null]);
    assert.deepEqual([attempt.bytes_out, request(trace).bytes_out], [response.body().length, response.body().length]);
    assert.equal((await gateway.logOf(response)).response.body.choices[0].message.content, WORDS);
  });

  test('in odd pieces, odd line ends and odd whitespace arrives byte for byte', async () => {
    const text = `\ufeff: a comment\r\n\r\n${chatEvents('grüße 😀 “quoted”', { done: false }).join('').replaceAll('\n\n', '\r\n\r\n')}event: x\nid: 7\nretry: 10\ndata:{"choices":[]}\n\ndata: [DONE]\n\n`;
    const all = Buffer.from(text);
    for (const size of [1, 2, 3, 7, 64, 4096]) {
      const pieces = [];
      for (let at = 0; at < all.length; at += size) pieces.push(all.subarray(at, at + size));
      upstream.on(`odd-${size}`, sse(pieces));
      const response = await stream(`odd-${size}`);
      assert.equal(response.text(), text, `pieces of ${size}`);
      const trace = await gateway.traceOf(response);
      assert.equal(trace.status, 'ok', `pieces of ${size}: ${JSON.stringify(attempts(trace)[0].error)}`);
      assert.equal((await gateway.logOf(response)).response.body.choices[0].message.content, 'grüße 😀 “quoted”');
    }
  });

  test('of a megabyte arrives byte for byte', { timeout: 60_000 }, async () => {
    const pieces = chatEvents('word '.repeat(6_000));
    upstream.on('mega', sse(pieces));
    const response = await stream('mega');
    assert.ok(response.text() === pieces.join(''));
    const trace = await gateway.traceOf(response);
    assert.deepEqual([trace.status, trace.usage.total_tokens, attempts(trace)[0].bytes_out], ['ok', 1200, response.body().length]);
    assert.equal((await gateway.logOf(response)).response.body.choices[0].message.content.length, 30_000);
  });

  test('longer than what is kept of it is still whole, and counted', { timeout: 120_000 }, async () => {
    const text = chatEvents(Array.from({ length: 45_000 }, (_, index) => `w${index}`).join(' ')).join('');
    assert.ok(text.length > 8_000_000);
    // Many short events in pieces that end inside them: whoever leaves out a piece breaks two events, not one long word.
    upstream.on('long', sse(text.match(/.{1,50021}/gs)));
    const response = await stream('long');
    assert.equal(response.body().length, Buffer.byteLength(text));
    assert.ok(response.text() === text, 'byte for byte');
    const trace = await gateway.traceOf(response);
    assert.deepEqual([trace.status, attempts(trace)[0].status, attempts(trace)[0].bytes_out, attempts(trace)[0].usage.total_tokens], ['ok', 'ok', text.length, 1200]);
  });

  test('in answer to an error is an error, whatever it is dressed as', async () => {
    upstream.on('dressed', sse(['data: {"error":{"message":"overloaded"}}\n\n'], { status: 503 }));
    const response = await stream('dressed');
    assert.deepEqual([response.status, response.text()], [503, 'data: {"error":{"message":"overloaded"}}\n\n']);
    assert.deepEqual(attempts(await gateway.traceOf(response)).map(span => [span.status, span.status_code, span.error.type]), [['error', 503, 'http_status']]);
  });

  test('that pauses for less than the idle limit is left alone', async () => {
    upstream.on('pause', sse(chatEvents('a b', { usage: null }), { gap: IDLE * 0.6 }));
    const response = await stream('pause');
    assert.match(response.text(), /\[DONE\]\n\n$/);
    assert.equal((await gateway.traceOf(response)).status, 'ok');
  });

  test('of tool calls is put together for the log', async () => {
    const chunk = delta => `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', model: 'gpt-4o', choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`;
    upstream.on('tools', sse([
      chunk({ role: 'assistant', content: null, tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'weather', arguments: '' } }] }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] }),
      'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n',
    ]));
    const { choices } = (await gateway.logOf(await stream('tools'))).response.body;
    assert.deepEqual([choices[0].finish_reason, choices[0].message.tool_calls[0].function], ['tool_calls', { name: 'weather', arguments: '{"city":"Oslo"}' }]);
  });
});

describe('a stream that is not whole says so in band, and in its span', { concurrency: true }, () => {
  const whole = chatEvents('one two three', { done: false, usage: null });
  const half = whole.slice(0, 3);
  for (const [name, answer, types, received] of [
    ['cut cleanly before the terminator', sse(half, { gap: 5 }), 'stream_truncated', half.join('')],
    ['cut cleanly after the finish reason', sse(whole, { gap: 5 }), 'stream_truncated', whole.join('')],
    ['cut in the middle of an event', sse([...half, 'data: {"id":"chatcmpl-1","choi'], { gap: 5 }), 'stream_truncated', half.join('')],
    ['cut in the middle of a character', sse([...half, Buffer.from('data: {"id":"ü').subarray(0, -1)], { gap: 5 }), 'stream_truncated', half.join('')],
    ['reset by the upstream', sse(half, { gap: 5, ending: 'reset' }), 'stream_truncated', half.join('')],
    ['reset in the middle of an event', sse([...half, 'data: {"x'], { gap: 5, ending: 'reset' }), 'stream_truncated', half.join('')],
    ['silent for too long', sse(half, { gap: 5, ending: 'stall' }), 'stream_stalled', half.join('')],
    ['silent from the beginning', sse([], { ending: 'stall' }), 'stream_stalled', ''],
    ['empty', sse([]), 'stream_truncated', ''],
    ['only comments', sse([': ping\n\n', ': ping\n\n'], { gap: 5 }), 'stream_truncated', ': ping\n\n'],
    ['garbage', sse([...half, 'data: {not json}\n\n', 'data: [DONE]\n\n'], { gap: 5 }), 'stream_malformed', half.join('')],
    // Lines that are no field of an event stream are to be ignored, so this is an empty stream, or garbage; never a whole one.
    ['HTML', sse(['<html><body>502 Bad Gateway</body></html>']), ['stream_malformed', 'stream_truncated'], ''],
    ['binary', sse([Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 7) % 256))]), ['stream_malformed', 'stream_truncated'], ''],
  ])
    test(name, { timeout: 60_000 }, async () => {
      const key = `bad-${name}`.replaceAll(/\W+/g, '-');
      upstream.on(key, answer);
      const response = await stream(key);
      assert.equal(response.status, 200);
      const text = response.text();
      assert.ok(text.startsWith(received), `what came before is untouched: ${text}`);
      const last = events(text).at(-1)?.data;
      let error;
      try {
        ({ error } = JSON.parse(last));
      } catch {
        assert.fail(`the last event is no error: ${JSON.stringify(text.slice(-300))}`);
      }
      assert.ok(error, `the last event is no error: ${JSON.stringify(text.slice(-300))}`);
      assert.ok([types].flat().includes(error.code), `code ${error.code}`);
      const type = error.code;
      assert.deepEqual([error.param, typeof error.message, typeof error.type], [null, 'string', 'string']);
      if (name !== 'garbage') assert.ok(!text.includes('[DONE]'), 'no terminator');
      assert.ok(text.endsWith('\n\n'));
      const trace = await gateway.traceOf(response);
      const [attempt] = attempts(trace);
      assert.deepEqual([attempts(trace).length, attempt.status, attempt.status_code, attempt.error.type], [1, 'error', 200, type]);
      assert.deepEqual([trace.status, request(trace).status, request(trace).status_code, request(trace).error.type], ['error', 'error', 200, type]);
      if (name.startsWith('silent')) assert.ok(upstream.requests(key)[0].abandonedAt, 'the upstream was let go');
    });

  test('the upstream’s own error event passes, without a second one', async () => {
    const own = 'data: {"error":{"message":"The server had an error","type":"server_error","param":null,"code":"overloaded"}}\n\n';
    upstream.on('own-error', sse([...half, own], { gap: 5 }));
    const response = await stream('own-error');
    assert.equal(response.text(), half.join('') + own);
    const trace = await gateway.traceOf(response);
    assert.deepEqual([trace.status, attempts(trace)[0].status, attempts(trace)[0].error.message.includes('The server had an error')], ['error', 'error', true]);
  });

  test('the log holds what the client received of it', async () => {
    upstream.on('log-cut', sse(half, { gap: 5 }));
    const log = await gateway.logOf(await stream('log-cut'));
    assert.match(JSON.stringify(log.response.body), /one two/);
  });
});

describe('before the first byte', { concurrency: true }, () => {
  test('a stream is retried and falls back like any call', async () => {
    upstream.on('pre/0', reset(), status(500)).on('pre/1', sse(chatEvents('rescued')));
    const response = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'pre/0', { retry: { attempts: 1 } }), target(upstream, 'pre/1')] }), { stream: true });
    assert.match(response.text(), /rescued/);
    const trace = await gateway.traceOf(response);
    assert.deepEqual(attempts(trace).map(span => [span.status_code, span.stream]), [[null, false], [500, false], [200, true]]);
    assert.equal(trace.rescued, true);
  });

  test('an upstream that refuses to stream answers as JSON', async () => {
    upstream.on('refuse', status(400));
    const response = await stream('refuse');
    assert.deepEqual([response.status, response.json().error.code], [400, 'e400']);
  });

  test('an upstream that does not stream at all passes as it is', async () => {
    upstream.on('whole-json', json('{"id":"x","choices":[]}'));
    const response = await stream('whole-json');
    assert.deepEqual([response.status, response.text(), response.headers['content-type']], [200, '{"id":"x","choices":[]}', 'application/json']);
  });

  test('a stream that nobody asked for is still passed on as one', async () => {
    upstream.on('unasked', sse(chatEvents('x')));
    const response = await stream('unasked', {}, QUESTION);
    assert.equal(response.text(), chatEvents('x').join(''));
  });
});

test('sixty streams at once arrive whole and are all recorded', { timeout: 120_000 }, async () => {
  const pieces = chatEvents(WORDS);
  upstream.on('many', sse(pieces, { gap: 30 }));
  const before = (await gateway.rest()).stored;
  const responses = await Promise.all(Array.from({ length: 60 }, () => stream('many', { 'x-portkey-trace-id': 'many-streams' })));
  assert.ok(responses.every(response => response.text() === pieces.join('')));
  const trace = await gateway.settled('many-streams', 60);
  assert.deepEqual([trace.request_count, trace.attempt_count, trace.error_count], [60, 60, 0]);
  assert.equal((await gateway.rest()).stored - before, 60);
});
