// Records on their way to rest: exactly once, whatever the queue, the database or the object store do (architecture decision 5).
import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attempts, config, eventually, QUESTION, QUEUE, request, startGateway, target, to } from './support/gateway.mjs';
import { chat, chatEvents, json, sse, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway({ faults: true });
after(() => Promise.all([gateway.stop(), upstream.stop()]));
beforeEach(() => (gateway.faults.failing.clear(), (gateway.faults.slow = {})));
upstream.on('ok', json(chat()));

/** What became of the records; what is unknown counts as nothing. */
const sum = account => account.stored + (account.pending ?? 0) + account.dead_lettered + Object.values(account.dropped).reduce((all, count) => all + count, 0);
function conserved(account) {
  if (account.accepted !== null) assert.equal(account.accepted, sum(account), JSON.stringify(account));
}

/** Makes `count` calls and returns the queue messages that carried them. */
async function captured(count) {
  const before = gateway.faults.messages.length;
  await Promise.all(Array.from({ length: count }, () => gateway.chat(to(upstream, 'ok'))));
  await gateway.rest();
  return gateway.faults.messages.slice(before);
}

test('the account counts what was stored; what it cannot know yet is null', async () => {
  await gateway.chat(to(upstream, 'ok'));
  await gateway.chat({ 'x-portkey-provider': 'nope' });
  assert.deepEqual(await gateway.rest(), { accepted: null, stored: 2, pending: null, dead_lettered: 0, dropped: { queue_refused: 0 } });
});

describe('the queue', () => {
  test('carries few messages, each below its limit', async () => {
    const messages = await captured(60);
    assert.ok(messages.every(body => typeof body === 'string' && Buffer.byteLength(body) < 127_000));
    assert.ok(messages.length < 60, `${messages.length} messages for 60 calls`);
    conserved(await gateway.accounting());
  });

  test('carries a burst of large calls without losing one', { timeout: 120_000 }, async () => {
    const text = '€"\n'.repeat(5_000);
    upstream.on('burst', json(chat(text)));
    const before = (await gateway.rest()).stored;
    const responses = await Promise.all(Array.from({ length: 150 }, () => gateway.chat(to(upstream, 'burst'), { messages: [{ role: 'user', content: text }] })));
    assert.ok(responses.every(response => response.status === 200));
    assert.equal((await gateway.rest()).stored - before, 150);
    const log = await gateway.logOf(responses[77]);
    assert.ok(log.request.body.messages[0].content === text && log.response.body.choices[0].message.content === text);
    assert.ok(gateway.faults.messages.every(body => Buffer.byteLength(body) < 127_900));
  });

  test('delivering a batch again changes nothing', async () => {
    const messages = await captured(10);
    upstream.on('stream', sse(chatEvents('one two')));
    upstream.on('big', json(chat('w'.repeat(150_000))));
    const from = gateway.faults.messages.length;
    await gateway.chat(to(upstream, 'stream'), { stream: true });
    await gateway.chat(to(upstream, 'big'));
    await gateway.rest();
    messages.push(...gateway.faults.messages.slice(from));
    const before = { dump: await gateway.dump(), account: await gateway.accounting(), objects: Object.keys(await gateway.objects()) };
    for (let round = 0; round < 2; round++) {
      const result = await gateway.deliver(messages);
      assert.equal(result.outcome, 'ok');
      assert.deepEqual(result.retryMessages, []);
    }
    await gateway.deliver([...messages].reverse());
    await gateway.deliver([messages[0], messages[0], messages[0]]);
    assert.equal(await gateway.dump(), before.dump);
    assert.deepEqual(await gateway.accounting(), before.account);
    assert.deepEqual(Object.keys(await gateway.objects()), before.objects);
  });

  test('a poison message is asked for again, and its neighbours are stored', async () => {
    const [template] = await captured(1);
    // The same call under other ids is a new call.
    const fresh = seed => template.replaceAll(/"(call_id|record_id)":"([0-9a-f]{24})([0-9a-f]{8})"/g, (_, name, head, tail) => `"${name}":"${head}${((parseInt(tail, 16) ^ seed) >>> 0).toString(16).padStart(8, '0')}"`);
    const before = await gateway.accounting();
    const poison = ['not json', '{"v":1}', '[{"v":999}]', '[{"v":1,"call_id":"zz"}]', '[]x', 'null', ''];
    const result = await gateway.deliver([fresh(1), ...poison, fresh(2)]);
    assert.equal(result.outcome, 'ok');
    assert.equal(result.retryMessages.length, poison.length, JSON.stringify(result.retryMessages));
    assert.ok(result.retryMessages.every(({ msgId }) => !/message-(0|8)-/.test(msgId)));
    assert.equal((await gateway.accounting()).stored, before.stored + 2);
  });

  test('one bad record in a message does not keep the good ones from being stored', async () => {
    const [template] = await captured(1);
    const other = template.replaceAll(/"(call_id|record_id)":"([0-9a-f]{24})([0-9a-f]{8})"/g, (_, name, head, tail) => `"${name}":"${head}${((parseInt(tail, 16) ^ 77) >>> 0).toString(16).padStart(8, '0')}"`);
    const before = (await gateway.accounting()).stored;
    await gateway.deliver([`[{"v":1,"junk":true},${other.slice(1)}`]);
    assert.equal((await gateway.accounting()).stored, before + 1);
  });

  test('bodies that are no text are poison, not a panic', async () => {
    for (const body of [{ a: 1 }, 42, null, new Uint8Array([1, 2, 3])]) {
      const result = await gateway.deliver([body]);
      assert.equal(result.outcome, 'ok');
      assert.equal(result.retryMessages.length, 1);
    }
  });

  test('dead letters are kept once and counted', async () => {
    const before = await gateway.accounting();
    const letter = [{ id: 'dead-1', timestamp: new Date(), attempts: 1, body: 'canary-dead-letter' }];
    const worker = await gateway.mf.getWorker('spangate');
    for (let round = 0; round < 2; round++) {
      const result = await worker.queue(`${QUEUE}-dlq`, letter);
      assert.deepEqual([result.outcome, result.retryMessages], ['ok', []]);
    }
    const account = await gateway.accounting();
    assert.equal(account.dead_lettered, before.dead_lettered + 1);
    conserved(account);
    assert.match(await gateway.dump(), /canary-dead-letter/);
  });

  test('that refuses costs nothing: the records go to the database at once', async () => {
    const before = await gateway.rest();
    gateway.faults.failing.add('queue');
    const responses = await Promise.all(Array.from({ length: 12 }, () => gateway.chat(to(upstream, 'ok'))));
    upstream.on('stream2', sse(chatEvents('one two')));
    responses.push(await gateway.chat(to(upstream, 'stream2'), { stream: true }));
    assert.ok(responses.every(response => response.status === 200));
    for (const response of responses) {
      const trace = await gateway.traceOf(response);
      assert.deepEqual([trace.request_count, trace.attempt_count, trace.usage.total_tokens], [1, 1, 1200]);
    }
    const account = await gateway.rest();
    assert.equal(account.stored, before.stored + 13);
    conserved(account);
  });

  test('that is slow loses nothing, even when the caller whose call carries the others leaves', { timeout: 120_000 }, async () => {
    upstream.on('carrier', sse(chatEvents('a b c d e f g h'), { gap: 40 }));
    const before = (await gateway.rest()).stored;
    gateway.faults.slow = { queue: 400 };
    for (let round = 0; round < 4; round++) {
      const streams = await Promise.all(Array.from({ length: 6 }, () => gateway.open('/v1/chat/completions', { ...QUESTION, stream: true }, to(upstream, 'carrier'))));
      // The first to leave is the first to be recorded: its request starts the send, and it is gone.
      await sleep(60);
      streams.slice(0, 3).forEach(response => response.leave());
      await Promise.all([...streams.slice(3).map(response => response.closed()), ...Array.from({ length: 10 }, () => gateway.chat(to(upstream, 'ok')))]);
    }
    gateway.faults.slow = {};
    await eventually(async () => (await gateway.accounting()).stored - before >= 64, '64 calls to be stored');
    assert.equal((await gateway.rest()).stored - before, 64);
  });

  test('that refuses for a moment is asked again', async () => {
    gateway.faults.failing.add('queue');
    const response = await gateway.chat(to(upstream, 'ok'));
    gateway.faults.failing.clear();
    assert.equal((await gateway.traceOf(response)).attempt_count, 1);
  });
});

describe('the database', () => {
  test('that fails costs the caller nothing, and its records come later', { timeout: 60_000 }, async () => {
    gateway.faults.failing.add('d1');
    const response = await gateway.chat(to(upstream, 'ok'));
    assert.equal(response.status, 200);
    const read = await gateway.get('/v1/traces/x');
    assert.deepEqual([read.status, read.json().error.code], [503, 'store_unavailable']);
    assert.equal((await gateway.get('/health')).status, 200);
    await sleep(500);
    gateway.faults.failing.clear();
    assert.equal((await gateway.traceOf(response)).attempt_count, 1);
    conserved(await gateway.rest());
  });

  test('that fails makes a delivery wait as a whole', async () => {
    const messages = await captured(3);
    gateway.faults.failing.add('d1.write');
    gateway.faults.failing.add('d1.select');
    const result = await gateway.deliver(messages);
    assert.deepEqual([result.outcome, result.retryMessages.length], ['ok', messages.length]);
    assert.ok(result.retryMessages.every(({ delaySeconds }) => delaySeconds > 0), JSON.stringify(result.retryMessages));
  });

  test('and the queue both failing is counted, never silent', { timeout: 60_000 }, async () => {
    const before = await gateway.rest();
    gateway.faults.failing.add('queue').add('d1');
    const responses = await Promise.all(Array.from({ length: 3 }, () => gateway.chat(to(upstream, 'ok'))));
    assert.ok(responses.every(response => response.status === 200));
    await sleep(1500);
    gateway.faults.failing.clear();
    await gateway.chat(to(upstream, 'ok'));
    const account = await eventually(async () => {
      const now = await gateway.accounting();
      return sum(now) >= sum(before) + 4 && now;
    }, 'the loss to be counted');
    assert.equal(account.stored, before.stored + 1);
    conserved(account);
    assert.ok(gateway.console.some(line => /drop|lost|refus|fail/i.test(line)), 'nothing on the console');
  });
});

describe('the object store', () => {
  test('that fails lets no record be lost: the facts are kept, the body says that it was cut', { timeout: 60_000 }, async () => {
    upstream.on('large', json(chat('w'.repeat(200_000))));
    gateway.faults.failing.add('r2');
    const response = await gateway.chat(to(upstream, 'large'));
    assert.equal(response.status, 200);
    await sleep(1000);
    gateway.faults.failing.clear();
    const trace = await gateway.traceOf(response);
    assert.deepEqual([trace.attempt_count, trace.usage.total_tokens], [1, 1200]);
    const log = await gateway.logOf(response);
    assert.ok(log.response.body.truncated === true ? log.response.body.bytes > 200_000 : log.response.body.choices[0].message.content.length === 200_000);
  });

  test('that fails on reading is an error that says so', async () => {
    upstream.on('large2', json(chat('v'.repeat(200_000))));
    const response = await gateway.chat(to(upstream, 'large2'));
    await gateway.logOf(response);
    gateway.faults.failing.add('r2.get');
    const read = await gateway.get(`/v1/logs/${response.headers['x-portkey-request-id']}`);
    assert.ok([200, 503].includes(read.status), `${read.status}`);
    if (read.status === 200) assert.ok(read.json().response.body.truncated);
  });
});

describe('large records', () => {
  for (const kilobytes of [60, 120, 130, 200, 400])
    test(`with bodies of ${kilobytes} KB are split or trimmed, never lost`, { timeout: 60_000 }, async () => {
      const text = '€"\\\n'.repeat((kilobytes * 1000) / 6);
      const key = `record-${kilobytes}`;
      upstream.on(`${key}/0`, json({ error: { message: text } }, { status: 500 })).on(`${key}/1`, json(chat(text)));
      const from = gateway.faults.messages.length;
      const response = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, `${key}/0`, { override_params: { user: 'x' } }), target(upstream, `${key}/1`)] }), { messages: [{ role: 'user', content: text }] });
      const trace = await gateway.traceOf(response);
      assert.deepEqual([trace.attempt_count, request(trace).status, attempts(trace).map(span => span.status_code)], [2, 'ok', [500, 200]]);
      assert.ok(gateway.faults.messages.slice(from).every(body => Buffer.byteLength(body) < 127_900));
      const log = await gateway.logOf(response);
      assert.ok(log.request.body.messages[0].content === text, 'request body');
      assert.ok(log.response.body.choices[0].message.content === text, 'response body');
    });

  test('with thousands of parameters and long metadata stay below the limit', { timeout: 60_000 }, async () => {
    const metadata = JSON.stringify(Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`key-${index}`, 'm'.repeat(128)])));
    const response = await gateway.chat(to(upstream, 'ok', { 'x-portkey-metadata': metadata }), Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`p${index}`, index])));
    assert.equal(response.status, 200);
    assert.equal((await gateway.traceOf(response)).attempt_count, 1);
  });
});
