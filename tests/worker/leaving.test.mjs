// A caller who leaves: the upstream is let go within two seconds, and what was seen is recorded (CF-15, CF-41).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADMIN_KEY, attempts, config, eventually, QUESTION, request, startGateway, target, to } from './support/gateway.mjs';
import { open } from './support/client.mjs';
import { chat, chatEvents, json, messageEvents, sse, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway({ vars: { STREAM_IDLE_TIMEOUT_MS: '3000' } });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const LONG = 'word '.repeat(200).trim();

/** The status is what the caller got before leaving (query-api §1). */
function cancelled(trace) {
  const root = request(trace);
  assert.deepEqual([root.status, root.status_code, root.error.type], ['cancelled', 200, 'client_disconnected']);
  for (const span of attempts(trace)) assert.ok(span.end_time <= root.end_time && span.start_time >= root.start_time);
}

describe('a caller who leaves in the middle of a stream', { concurrency: true }, () => {
  for (const [name, key, headers, answer, has] of [
    ['untouched', 'leave-openai', key => to(upstream, key), sse(chatEvents(LONG), { gap: 100 }), 'word word'],
    ['translated', 'leave-anthropic', key => to(upstream, key, { 'x-portkey-provider': 'anthropic' }), sse(messageEvents(LONG), { gap: 100 }), 'word word'],
  ])
    test(`${name}: the upstream closes within 2 s, and the part is recorded as cancelled`, { timeout: 60_000 }, async () => {
      upstream.on(key, answer);
      const trace = `trace-${key}`;
      const response = await gateway.open('/v1/chat/completions', { ...QUESTION, stream: true }, { ...headers(key), 'x-portkey-trace-id': trace });
      await response.until(text => text.split('word').length > 6);
      const seen = response.body().length;
      const left = Date.now();
      response.leave();
      const [entry] = upstream.requests(key);
      await eventually(() => entry.abandonedAt, 'the upstream to be closed', 10_000);
      assert.ok(entry.abandonedAt - left < 2000, `closed after ${entry.abandonedAt - left} ms`);
      assert.ok(entry.sentAt.length < 60, `${entry.sentAt.length} events were sent`);

      const stored = await gateway.settled(trace);
      cancelled(stored);
      const [attempt] = attempts(stored);
      assert.deepEqual([attempts(stored).length, attempt.status, attempt.status_code, attempt.error.type, attempt.stream], [1, 'cancelled', 200, 'client_disconnected', true]);
      assert.ok(attempt.bytes_out > 0);
      const log = await gateway.log(request(stored).log_id);
      assert.match(JSON.stringify(log.response.body), new RegExp(has));
      assert.ok(JSON.stringify(log.response.body).length < 20_000 && seen > 0);
    });

  test('while twenty others stay: they arrive whole', { timeout: 60_000 }, async () => {
    upstream.on('crowd', sse(chatEvents('a b c d e f g h i j k l'), { gap: 100 }));
    const body = { ...QUESTION, stream: true };
    const all = await Promise.all(Array.from({ length: 40 }, () => gateway.open('/v1/chat/completions', body, to(upstream, 'crowd', { 'x-portkey-trace-id': 'crowd' }))));
    await sleep(300);
    all.filter((_, index) => index % 2).forEach(response => response.leave());
    const stayed = await Promise.all(all.filter((_, index) => index % 2 === 0).map(response => response.closed()));
    assert.ok(stayed.every(response => /\[DONE\]\n\n$/.test(response.text())));
    const trace = await gateway.settled('crowd', 40);
    const statuses = trace.spans.filter(span => span.kind === 'request').map(span => span.status).sort();
    assert.deepEqual(statuses, [...Array(20).fill('cancelled'), ...Array(20).fill('ok')]);
  });
});

describe('a caller who leaves before the answer', { concurrency: true }, () => {
  // This platform tells nobody that a caller left while nothing is written to him; production does. So here it is only
  // proven that such a call ends, is recorded once, and calls no one afterwards who had not been called yet.
  test('is recorded once, and nothing hangs', { timeout: 60_000 }, async () => {
    upstream.on('early', json(chat(), { delay: 1500 }));
    const leave = new AbortController();
    const headers = { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, ...to(upstream, 'early', { 'x-portkey-trace-id': 'early' }) };
    const gone = open(`${gateway.url}/v1/chat/completions`, { headers, body: JSON.stringify(QUESTION), signal: leave.signal }).catch(error => error.name);
    await eventually(() => upstream.requests('early').length, 'the upstream to be called');
    leave.abort();
    assert.equal(await gone, 'AbortError');
    const trace = await gateway.settled('early');
    assert.deepEqual([trace.request_count, trace.attempt_count], [1, 1]);
    if (request(trace).status !== 'ok') cancelled(trace);
  });

  test('during a backoff is recorded once', { timeout: 60_000 }, async () => {
    upstream.on('backoff', status(500), json(chat()));
    const leave = new AbortController();
    const headers = { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, 'x-portkey-trace-id': 'backoff', ...config(target(upstream, 'backoff', { retry: { attempts: 2 } })) };
    const gone = open(`${gateway.url}/v1/chat/completions`, { headers, body: JSON.stringify(QUESTION), signal: leave.signal }).catch(error => error.name);
    await eventually(() => upstream.requests('backoff').length, 'the upstream to be called');
    leave.abort();
    await gone;
    const trace = await gateway.settled('backoff');
    assert.equal(trace.request_count, 1);
    assert.equal(trace.attempt_count, upstream.requests('backoff').length);
    if (request(trace).status !== 'ok') cancelled(trace);
  });
});

test('a caller who reads slowly gets everything', { timeout: 60_000 }, async () => {
  const pieces = chatEvents('word '.repeat(3000));
  upstream.on('slow', sse(pieces));
  const http = await import('node:http');
  const text = await new Promise((done, fail) => {
    const request = http.request(`${gateway.url}/v1/chat/completions`, { method: 'POST', agent: false, headers: { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, ...to(upstream, 'slow') } }, async response => {
      const chunks = [];
      for await (const chunk of response) {
        chunks.push(chunk);
        if (chunks.length < 20) await sleep(50);
      }
      done(Buffer.concat(chunks).toString());
    });
    request.on('error', fail);
    request.end(JSON.stringify({ ...QUESTION, stream: true }));
  });
  assert.ok(text === pieces.join(''));
});
