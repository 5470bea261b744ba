// A panic in one request takes no other with it (architecture decision 8, CF-33, CF-41): needs the test-faults build.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attempts, QUESTION, request, startGateway, to } from './support/gateway.mjs';
import { chat, chatEvents, json, messageEvents, sse, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop({ panics: true }), upstream.stop()]));

const panic = () => gateway.chat(to(upstream, 'ok', { 'x-spangate-test-panic': 'now' })).catch(error => ({ status: 0, error }));

test('the next request is served', async () => {
  upstream.on('ok', json(chat()));
  for (let round = 0; round < 3; round++) {
    assert.notEqual((await panic()).status, 200);
    const response = await gateway.chat(to(upstream, 'ok'));
    assert.equal(response.status, 200);
    assert.equal((await gateway.traceOf(response)).attempt_count, 1);
  }
});

test('a panic after the upstream has answered fails its own call, and what waits beside it, in words', { timeout: 60_000 }, async () => {
  upstream.on('ok', json(chat()));
  upstream.on('beside', json(chat(), { delay: 600 }));
  const beside = gateway.chat(to(upstream, 'beside'));
  await sleep(200);
  const late = await gateway.chat(to(upstream, 'ok', { 'x-spangate-test-panic': 'later' }));
  for (const response of [late, await beside]) assert.deepEqual([response.status, response.json().error.code], [500, 'internal_error']);
  assert.equal((await gateway.chat(to(upstream, 'ok'))).status, 200);
});

test('streams in flight arrive whole and are recorded exactly once each', { timeout: 60_000 }, async () => {
  const pieces = chatEvents('one two three four five six seven eight nine ten', { id: 'guarded' });
  upstream.on('flight', sse(pieces, { gap: 150 }));
  const before = (await gateway.rest()).stored;
  const open = Array.from({ length: 6 }, (_, index) => gateway.open('/v1/chat/completions', { ...QUESTION, stream: true }, to(upstream, 'flight', { 'x-portkey-trace-id': `flight-${index}`, 'x-portkey-metadata': '{"k":"v"}' })));
  const responses = await Promise.all(open);
  await sleep(400);
  await panic();
  upstream.on('ok', json(chat()));
  assert.equal((await gateway.chat(to(upstream, 'ok'))).status, 200);
  for (const response of responses) {
    await response.closed();
    assert.equal(response.text(), pieces.join(''));
  }
  for (const [index, response] of responses.entries()) {
    const trace = await gateway.settled(`flight-${index}`);
    const [attempt] = attempts(trace);
    assert.deepEqual([trace.request_count, trace.attempt_count, trace.status], [1, 1, 'ok']);
    assert.deepEqual([attempt.status, attempt.status_code, attempt.stream, attempt.usage.total_tokens, attempt.bytes_out], ['ok', 200, true, 1200, response.body().length]);
    assert.ok(attempt.cost_usd > 0 && attempt.duration_ms > 1000);
    assert.deepEqual([request(trace).status, request(trace).status_code, request(trace).metadata.k], ['ok', 200, 'v']);
    assert.equal((await gateway.logOf(response)).response.body.choices[0].message.content, 'one two three four five six seven eight nine ten');
  }
  const account = await gateway.rest();
  assert.equal(account.stored - before, 7, JSON.stringify(account));
});

test('a guarded stream that was cut is closed honestly and recorded as cut', { timeout: 60_000 }, async () => {
  const pieces = chatEvents('one two three four five six', { done: false });
  upstream.on('guard-cut', sse(pieces, { gap: 150, ending: 'reset' }));
  const response = await gateway.open('/v1/chat/completions', { ...QUESTION, stream: true }, to(upstream, 'guard-cut'));
  await sleep(300);
  await panic();
  await response.closed();
  assert.ok(response.text().startsWith(pieces.join('')));
  assert.match(response.text(), /"error":/);
  assert.doesNotMatch(response.text(), /\[DONE\]/);
  const trace = await gateway.traceOf(response);
  assert.deepEqual([trace.status, attempts(trace)[0].error.type, request(trace).error.type], ['error', 'stream_truncated', 'stream_truncated']);
});

test('a translated stream in flight ends whole, or says that it did not', { timeout: 60_000 }, async () => {
  upstream.on('guard-anthropic', sse(messageEvents('a b c d e f g h i j'), { gap: 100 }));
  const response = await gateway.open('/v1/chat/completions', { ...QUESTION, stream: true }, to(upstream, 'guard-anthropic', { 'x-portkey-provider': 'anthropic' }));
  await sleep(300);
  await panic();
  await response.closed();
  const whole = /\[DONE\]\n\n$/.test(response.text());
  assert.ok(whole || /"error":/.test(response.text()) || !response.complete, response.text().slice(-300));
  const trace = await gateway.traceOf(response);
  assert.deepEqual([trace.request_count, trace.attempt_count], [1, 1]);
  assert.equal(trace.status === 'ok', whole);
});

test('records that were on their way to the queue are not lost', { timeout: 60_000 }, async () => {
  upstream.on('burst', json(chat()));
  const before = (await gateway.rest()).stored;
  const burst = Array.from({ length: 40 }, () => gateway.chat(to(upstream, 'burst')).catch(() => ({ status: 0 })));
  const answered = (await Promise.all([...burst.slice(0, 20), panic(), ...burst.slice(20)])).filter(response => response.status === 200).length;
  const account = await gateway.rest();
  assert.ok(account.stored - before >= answered, `${answered} were answered, ${account.stored - before} stored`);
});

test('the record that a guard sends fits the queue, however large the call', { timeout: 60_000 }, async () => {
  const wide = '€'.repeat(10_000);
  const pieces = chatEvents(`${wide} `.repeat(8).trim());
  upstream.on('guard-large', sse(pieces, { gap: 100 }));
  for (const [index, content] of ['€'.repeat(40_000), '"\\\n'.repeat(40_000), 'x'.repeat(500_000)].entries()) {
    const trace = `guard-large-${index}`;
    const response = await gateway.open('/v1/chat/completions', { ...QUESTION, stream: true, messages: [{ role: 'user', content }] }, to(upstream, 'guard-large', { 'x-portkey-trace-id': trace }));
    await sleep(300);
    await panic();
    await response.closed();
    assert.ok(response.text() === pieces.join(''));
    const stored = await gateway.settled(trace);
    assert.deepEqual([stored.request_count, stored.attempt_count, stored.status], [1, 1, 'ok']);
    assert.equal(attempts(stored)[0].usage.total_tokens, 1200);
    const { body } = (await gateway.logOf(response)).request;
    assert.ok(body.truncated ? body.bytes > content.length : body.messages[0].content === content);
  }
});
