// The retry algorithm with real waits, Retry-After, timeouts (protocol §2.5, §2.6; checklist 55–68).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { attempts, config, request, startGateway, target, to } from './support/gateway.mjs';
import { bytes, chat, chatEvents, json, never, refusingPort, reset, resetInBody, sse, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
const closedPort = await refusingPort();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const limited = (headers = {}) => status(429, { headers });

/** Runs `answers` under `retry`; returns the response, the gaps between the upstream's requests in ms, and the trace. */
async function run(key, retry, answers, more = {}) {
  upstream.on(key, ...answers);
  const response = await gateway.chat(config(target(upstream, key, { ...(retry && { retry }), ...more.target }), more.headers));
  const arrivals = upstream.requests(key).map(entry => entry.at);
  const gaps = arrivals.slice(1).map((at, index) => at - arrivals[index]);
  const trace = await gateway.traceOf(response);
  return { response, calls: arrivals.length, gaps, trace, tries: attempts(trace), count: response.headers['x-portkey-retry-attempt-count'] };
}

/** Waits are never shorter than promised; longer only by what a loaded machine may cost. */
function waited(gap, promised) {
  assert.ok(gap >= promised - 2, `waited ${gap} ms, promised ${promised}`);
  assert.ok(gap < promised + 5_000, `waited ${gap} ms, promised ${promised}`);
}

describe('backoff', { concurrency: true }, () => {
  test('500, 500, 200 with three attempts waits 1 s and 2 s', async () => {
    const { response, calls, gaps, count, tries, trace } = await run('b55', { attempts: 3 }, [status(500), status(500), json(chat())]);
    assert.deepEqual([response.status, calls, count], [200, 3, '2']);
    waited(gaps[0], 1000);
    waited(gaps[1], 2000);
    assert.deepEqual(tries.map(span => [span.status_code, span.attempt.retry, span.attempt.reason, span.attempt.wait_ms, span.attempt.wait_reason]), [
      [500, 0, 'first', 0, null],
      [500, 1, 'retry', 1000, 'backoff'],
      [200, 2, 'retry', 2000, 'backoff'],
    ]);
    assert.equal(request(trace).status, 'ok');
    assert.equal(trace.rescued, true);
    assert.ok(tries.every(span => span.duration_ms < 900), 'waits are not in the attempts');
  });

  test('five attempts at a dead upstream make six calls and 31 s of waits', { timeout: 120_000 }, async () => {
    const { response, calls, gaps, count, tries } = await run('b56', { attempts: 5 }, [status(503)]);
    assert.deepEqual([response.status, calls, count, response.headers['x-should-retry']], [503, 6, '-1', 'false']);
    [1, 2, 4, 8, 16].forEach((seconds, index) => waited(gaps[index], seconds * 1000));
    assert.deepEqual(tries.map(span => span.attempt.wait_ms), [0, 1000, 2000, 4000, 8000, 16000]);
  });

  test('after a reset connection', async () => {
    const { response, calls, gaps, count, tries } = await run('b-reset', { attempts: 1 }, [reset(), json(chat())]);
    assert.deepEqual([response.status, calls, count], [200, 2, '1']);
    waited(gaps[0], 1000);
    assert.deepEqual(tries.map(span => [span.status_code, span.error?.type ?? null]), [[null, 'connect'], [200, null]]);
  });

  test('after a timeout, where 408 is listed', { timeout: 60_000 }, async () => {
    const { response, calls, tries, count } = await run('b66', { attempts: 3, on_status_codes: [408] }, [never()], { target: { request_timeout: 150 } });
    assert.deepEqual([response.status, calls, count, response.json().error.type], [408, 4, '-1', 'timeout_error']);
    assert.deepEqual(tries.map(span => [span.status_code, span.error.type]), Array(4).fill([null, 'timeout']));
  });
});

describe('what is retried', { concurrency: true }, () => {
  for (const [name, retry, answers, expected] of [
    ['nothing without a retry', null, [status(500)], [500, 1, '0']],
    ['nothing with no attempts', { attempts: 0 }, [status(503)], [503, 1, '0']],
    ['not a status outside a given list', { attempts: 2, on_status_codes: [429] }, [status(500)], [500, 1, '0']],
    ['no status with an empty list', { attempts: 2, on_status_codes: [] }, [status(503)], [503, 1, '0']],
    ['not a 400', { attempts: 3 }, [status(400)], [400, 1, '0']],
    ['not a 401', { attempts: 3 }, [status(401)], [401, 1, '0']],
    ['not a 408 by default', { attempts: 3 }, [status(408)], [408, 1, '0']],
    ['a listed 400', { attempts: 1, on_status_codes: [400] }, [status(400), json(chat())], [200, 2, '1']],
    ['529 by default', { attempts: 1 }, [status(529), json(chat())], [200, 2, '1']],
    ['not a success, even when it is listed', { attempts: 2, on_status_codes: [200] }, [json(chat())], [200, 1, '0']],
    ['a redirect passes untouched', { attempts: 2 }, [bytes([''], { status: 302, headers: { location: 'http://127.0.0.1:1/x' } })], [302, 1, '0']],
    ['a failure that changes its kind is judged anew', { attempts: 3 }, [status(503), status(400)], [400, 2, '1']],
  ])
    test(name, async () => {
      const { response, calls, count } = await run(`what-${name}`.replaceAll(/\W+/g, '-'), retry, answers);
      assert.deepEqual([response.status, calls, count], expected);
    });
});

describe('Retry-After', { concurrency: true }, () => {
  const obey = attempts => ({ attempts, use_retry_after_header: true });
  for (const [name, retry, answers, expected, gap, wait] of [
    ['seconds', obey(1), [limited({ 'retry-after': '2' }), json(chat())], [200, 2, '1'], 2000, 2000],
    ['milliseconds beat seconds', obey(1), [limited({ 'retry-after-ms': '100', 'retry-after': '9' }), json(chat())], [200, 2, '1'], 100, 100],
    ['x-ms milliseconds beat seconds', obey(1), [limited({ 'x-ms-retry-after-ms': '120', 'retry-after': '9' }), json(chat())], [200, 2, '1'], 120, 120],
    ['the plural spelling of the option', { attempts: 1, use_retry_after_headers: true }, [limited({ 'retry-after-ms': '50' }), json(chat())], [200, 2, '1'], 50, 50],
    ['the option in camel case', { attempts: 1, useRetryAfterHeader: true }, [limited({ 'retry-after-ms': '50' }), json(chat())], [200, 2, '1'], 50, 50],
  ])
    test(name, async () => {
      const { response, calls, count, gaps, tries } = await run(`ra-${name}`.replaceAll(/\W+/g, '-'), retry, answers);
      assert.deepEqual([response.status, calls, count], expected);
      waited(gaps[0], gap);
      assert.deepEqual([tries[1].attempt.wait_ms, tries[1].attempt.wait_reason], [wait, 'retry-after']);
    });

  test('that is ignored: not asked for, not a 429, not a number', async () => {
    await Promise.all([
      run('ra-off', { attempts: 1 }, [limited({ 'retry-after-ms': '1' }), json(chat())]),
      run('ra-503', obey(1), [status(503, { headers: { 'retry-after': '20' } }), json(chat())]),
      run('ra-date', obey(1), [limited({ 'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT' }), json(chat())]),
    ].map(async running => {
      const { calls, gaps, tries } = await running;
      assert.equal(calls, 2);
      waited(gaps[0], 1000);
      assert.equal(tries[1].attempt.wait_reason, 'backoff');
    }));
  });

  test('of a minute ends the retries at once', async () => {
    const { response, calls, count } = await run('ra-60', obey(3), [limited({ 'retry-after': '60' })]);
    assert.deepEqual([response.status, calls, count, response.headers['retry-after']], [429, 1, '-1', '60']);
  });

  test('beyond what is left of the budget ends the retries at once', async () => {
    const { calls, count } = await run('ra-budget', obey(5), [limited({ 'retry-after': '2' }), limited({ 'retry-after-ms': '58001' })]);
    assert.deepEqual([calls, count], [2, '-1']);
  });

  test('obeyed once, later backoffs are zero', async () => {
    const { calls, gaps, tries } = await run('ra-zero', obey(3), [limited({ 'retry-after-ms': '200' }), status(503), status(503), json(chat())]);
    assert.equal(calls, 4);
    waited(gaps[0], 200);
    assert.ok(gaps[1] < 900 && gaps[2] < 900, `gaps ${gaps}`);
    assert.deepEqual(tries.map(span => span.attempt.wait_ms), [0, 200, 0, 0]);
  });

  test('attempts are at most five', async () => {
    const { calls, count } = await run('ra-clamp', obey(50), [limited({ 'retry-after-ms': '1' })]);
    assert.deepEqual([calls, count], [6, '-1']);
  });
});

describe('timeout', { concurrency: true }, () => {
  test('is a 408 in OpenAI’s shape that names the milliseconds, and closes the upstream', async () => {
    const { response, tries, trace } = await run('t65', null, [never()], { target: { request_timeout: 100 } });
    assert.equal(response.status, 408);
    const { error } = response.json();
    assert.match(error.message, /100/);
    assert.deepEqual([error.type, error.param, error.code], ['timeout_error', null, null]);
    assert.deepEqual([tries[0].status, tries[0].status_code, tries[0].error.type], ['error', null, 'timeout']);
    assert.deepEqual([request(trace).status, request(trace).status_code], ['error', 408]);
    const [entry] = upstream.requests('t65');
    await upstreamClosed(entry);
  });

  test('of the header beats the config’s, both ways', async () => {
    upstream.on('t43', json(chat(), { delay: 2000 }));
    const headers = more => config(target(upstream, 't43', { request_timeout: more.config }), { 'x-portkey-request-timeout': more.header });
    assert.equal((await gateway.chat(headers({ config: 30_000, header: '300' }))).status, 408);
    assert.equal((await gateway.chat(headers({ config: 300, header: '30000' }))).status, 200);
    assert.equal((await gateway.chat(headers({ config: 300, header: '0' }))).status, 408);
    assert.equal((await gateway.chat(headers({ config: 300, header: 'soon' }))).status, 408);
  });

  test('is for the headers: a stream that began in time is not cut', async () => {
    upstream.on('t67', sse(chatEvents('a b c d e f'), { gap: 250 }));
    const response = await gateway.chat(to(upstream, 't67', { 'x-portkey-request-timeout': '700' }), { stream: true });
    assert.equal(response.status, 200);
    assert.match(response.text(), /\[DONE\]/);
  });

  test('is for the headers: a body that drips after them is not cut', async () => {
    const text = JSON.stringify(chat('drip'));
    upstream.on('drip', bytes([text.slice(0, 50), text.slice(50, 90), text.slice(90)], { gap: 500, headers: { 'content-type': 'application/json' } }));
    const response = await gateway.chat(to(upstream, 'drip', { 'x-portkey-request-timeout': '700' }));
    assert.deepEqual([response.status, response.text()], [200, text]);
  });

  test('is inherited from the nearest node', { timeout: 60_000 }, async () => {
    upstream.on('t68', json(chat(), { delay: 2200 }));
    const leaf = more => target(upstream, 't68', more);
    const fallback = (targets, more) => ({ strategy: { mode: 'fallback' }, targets, ...more });
    const response = await gateway.chat(config(fallback([leaf(), fallback([leaf({ request_timeout: 300 }), leaf()], { request_timeout: 400 }), leaf({ request_timeout: 20_000 })], { request_timeout: 500 })));
    assert.equal(response.status, 200);
    const tries = attempts(await gateway.traceOf(response));
    assert.deepEqual(tries.map(span => [span.attempt.target, span.error?.type ?? span.status_code]), [
      ['config.targets[0]', 'timeout'],
      ['config.targets[1].targets[0]', 'timeout'],
      ['config.targets[1].targets[1]', 'timeout'],
      ['config.targets[2]', 200],
    ]);
    const lengths = tries.map(span => span.duration_ms);
    [500, 300, 400].forEach((bound, index) => assert.ok(lengths[index] >= bound - 2 && lengths[index] < 2150, `${bound}: ${lengths}`));
  });
});

describe('no answer', { concurrency: true }, () => {
  for (const [name, headers] of [
    ['a refused connection', () => ({ 'x-portkey-provider': 'openai', authorization: 'Bearer k', 'x-portkey-custom-host': `http://127.0.0.1:${closedPort}/v1` })],
    ['a reset connection', () => (upstream.on('reset', reset()), to(upstream, 'reset'))],
    ['a connection that breaks inside the body', () => (upstream.on('half', resetInBody()), to(upstream, 'half'))],
  ])
    test(`${name} is a 503 that SDKs can read`, async () => {
      const response = await gateway.chat(headers());
      assert.equal(response.status, 503);
      const body = response.json();
      assert.deepEqual([body.status, body.error.type, body.error.param], ['failure', 'gateway_error', null]);
      assert.equal(body.error.message, body.message);
      const trace = await gateway.traceOf(response);
      const [span] = attempts(trace);
      assert.deepEqual([attempts(trace).length, span.status, span.error.type], [1, 'error', 'connect']);
      if (name !== 'a connection that breaks inside the body') assert.equal(span.status_code, null);
      assert.deepEqual([request(trace).status, request(trace).status_code], ['error', 503]);
    });
});

async function upstreamClosed(entry) {
  const { eventually } = await import('./support/gateway.mjs');
  await eventually(() => entry.abandonedAt, 'the upstream to be closed');
}
