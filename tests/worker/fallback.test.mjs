// Fallback, single and nesting (protocol §2.2, §2.3; checklist 69–77), and the attempts that a trace shows of them.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { attempts, config, request, startGateway, target } from './support/gateway.mjs';
import { chat, json, never, refusingPort, reset, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
const closedPort = await refusingPort();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const fallback = (targets, on_status_codes, more = {}) => ({ strategy: { mode: 'fallback', ...(on_status_codes && { on_status_codes }) }, targets, ...more });

/** Each of `answers` is one target's script; returns what was called, in order, by the upstream's own log. */
async function run(key, answers, build) {
  const leaves = answers.map((script, index) => {
    upstream.on(`${key}/${index}`, ...[script].flat());
    return target(upstream, `${key}/${index}`);
  });
  const response = await gateway.chat(config(build(leaves)));
  const trace = await gateway.traceOf(response);
  return { response, trace, tries: attempts(trace), called: upstream.requests(key).map(entry => Number(entry.key.split('/').pop())), index: response.headers['x-portkey-last-used-option-index'] };
}

describe('fallback', { concurrency: true }, () => {
  for (const [name, answers, codes, expected] of [
    ['goes on after a 500', [status(500), json(chat())], undefined, [200, [0, 1], 1]],
    ['goes on after any non-2xx', [status(404), status(301), json(chat())], undefined, [200, [0, 1, 2], 2]],
    ['goes on after a reset connection', [reset(), json(chat())], undefined, [200, [0, 1], 1]],
    ['goes on after a listed 503 of a reset connection', [reset(), json(chat())], [503], [200, [0, 1], 1]],
    ['stops at the first success', [json(chat()), status(500)], undefined, [200, [0], 0]],
    ['stops at a status that is not listed', [status(500), json(chat())], [429], [500, [0], 0]],
    ['goes on at one that is', [status(429), json(chat())], [429], [200, [0, 1], 1]],
    ['goes on at a listed success', [json(chat('first')), json(chat('second'))], [200], [200, [0, 1], 1]],
    ['never goes on with an empty list', [status(500), json(chat())], [], [500, [0], 0]],
    ['gives the last answer when all fail', [status(500), status(502), status(418)], undefined, [418, [0, 1, 2], 2]],
  ])
    test(name, async () => {
      const { response, called, index, trace } = await run(`f-${name}`.replaceAll(/\W+/g, '-'), answers, leaves => fallback(leaves, codes));
      assert.deepEqual([response.status, called, index], [expected[0], expected[1], `config.targets[${expected[2]}]`]);
      assert.equal(trace.attempt_count, called.length);
      assert.equal(request(trace).status_code, expected[0]);
      assert.equal(trace.rescued, trace.error_count > 0 && expected[0] < 400);
    });

  test('goes on after a timeout', async () => {
    const { response, called, tries } = await run('f-timeout', [never(), json(chat())], ([slow, good]) => fallback([{ ...slow, request_timeout: 200 }, good]));
    assert.deepEqual([response.status, called], [200, [0, 1]]);
    assert.deepEqual(tries.map(span => [span.status_code, span.error?.type]), [[null, 'timeout'], [200, undefined]]);
  });

  test('goes on after a refused connection', async () => {
    const { response, tries } = await run('f-refused', [json(chat())], ([good]) => fallback([{ ...good, custom_host: `http://127.0.0.1:${closedPort}/v1` }, good]));
    assert.equal(response.status, 200);
    assert.deepEqual(tries.map(span => [span.status_code, span.error?.type]), [[null, 'connect'], [200, undefined]]);
  });

  test('comes after the retries of a target, which restart at the next', async () => {
    const limited = status(429, { headers: { 'retry-after-ms': '5' } });
    const { called, tries, index, response } = await run('f74', [limited, [limited, json(chat())]], leaves => fallback(leaves, undefined, { retry: { attempts: 2, use_retry_after_header: true } }));
    assert.deepEqual([called, index, response.headers['x-portkey-retry-attempt-count']], [[0, 0, 0, 1, 1], 'config.targets[1]', '1']);
    assert.deepEqual(tries.map(span => [span.attempt.index, span.attempt.retry, span.attempt.reason, span.attempt.target, span.attempt.wait_ms]), [
      [0, 0, 'first', 'config.targets[0]', 0],
      [1, 1, 'retry', 'config.targets[0]', 5],
      [2, 2, 'retry', 'config.targets[0]', 5],
      [3, 0, 'fallback', 'config.targets[1]', 0],
      [4, 1, 'retry', 'config.targets[1]', 5],
    ]);
  });

  test('a target’s own retry replaces the inherited one whole', async () => {
    const limited = status(429, { headers: { 'retry-after-ms': '5' } });
    const { called } = await run('f75', [limited, limited], ([first, second]) =>
      fallback([{ ...first, retry: { attempts: 1, on_status_codes: [429], use_retry_after_header: true } }, { ...second, retry: { attempts: 4, on_status_codes: [500] } }], undefined, { retry: { attempts: 2, use_retry_after_header: true } }));
    assert.deepEqual(called, [0, 0, 1]);
  });
});

describe('nesting', { concurrency: true }, () => {
  test('an inner fallback is done before the outer goes on, and paths say where', async () => {
    const { called, tries, index } = await run('n1', [status(500), status(502), json(chat())], ([a, b, c]) => fallback([fallback([a, b]), c]));
    assert.deepEqual([called, index], [[0, 1, 2], 'config.targets[1]']);
    assert.deepEqual(tries.map(span => span.attempt.target), ['config.targets[0].targets[0]', 'config.targets[0].targets[1]', 'config.targets[1]']);
  });

  test('what satisfies the inner one may still not satisfy the outer', async () => {
    const { called, response } = await run('n2', [status(500), json(chat()), json(chat('outer'))], ([a, b, c]) => fallback([fallback([a, b], [429]), c]));
    assert.deepEqual([called, response.status], [[0, 2], 200]);
  });

  test('what does not satisfy the inner one, but the outer, ends it', async () => {
    const { called, response } = await run('n3', [status(500), status(404), json(chat())], ([a, b, c]) => fallback([fallback([a, b]), c], [500]));
    assert.deepEqual([called, response.status], [[0, 1], 404]);
  });

  test('single runs its first target only', async () => {
    const { called, index, response } = await run('n4', [status(500), json(chat())], leaves => ({ strategy: { mode: 'single' }, targets: leaves }));
    assert.deepEqual([called, index, response.status], [[0], 'config.targets[0]', 500]);
  });

  test('targets without a strategy mean single', async () => {
    const { called, index } = await run('n5', [json(chat()), json(chat())], leaves => ({ targets: leaves }));
    assert.deepEqual([called, index], [[0], 'config.targets[0]']);
  });

  test('camel case is snake case', async () => {
    const { called } = await run('n6', [status(429), json(chat())], ([a, b]) => ({
      strategy: { mode: 'fallback', onStatusCodes: [429] },
      targets: [{ provider: 'openai', customHost: a.custom_host, apiKey: 'k' }, { provider: 'openai', customHost: b.custom_host, apiKey: 'k' }],
    }));
    assert.deepEqual(called, [0, 1]);
  });
});
