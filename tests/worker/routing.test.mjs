// Load balancing and conditional routing (protocol §2.3; checklist 78–88), what a trace says of the decisions, and the verdict
// on a config before it is used.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ADMIN_KEY, attempts, config, request, startGateway, target } from './support/gateway.mjs';
import { send } from './support/client.mjs';
import { chat, json, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

const leaf = (key, more) => (upstream.on(key, json(chat(key))), target(upstream, key, more));
const balanced = targets => ({ strategy: { mode: 'loadbalance' }, targets });
const conditional = (conditions, targets, fallbackTo) => ({ strategy: { mode: 'conditional', conditions, default: fallbackTo }, targets });
const used = response => response.headers['x-portkey-last-used-option-index'];
const decisions = trace => request(trace).events.filter(event => event.name === 'portkey.decision').map(event => event.attributes);

describe('load balancing', { concurrency: true }, () => {
  test('300 calls fall as 0.9 to 0.1, and never on a weight of 0', async () => {
    const way = config(balanced([leaf('lb/a', { weight: 0.9 }), leaf('lb/b', { weight: 0.1 }), leaf('lb/c', { weight: 0 })]));
    for (let round = 0; round < 30; round++) await Promise.all(Array.from({ length: 10 }, () => gateway.chat(way).then(answer => assert.equal(answer.status, 200))));
    const [a, b, c] = ['a', 'b', 'c'].map(key => upstream.requests(`lb/${key}`).length);
    assert.equal(a + b + c, 300);
    assert.equal(c, 0);
    assert.ok(b >= 8 && b <= 60, `${b} of 300 with a weight of 0.1`); // 4 standard deviations down, 6 up
  });

  test('without weights the shares are equal', async () => {
    const way = config(balanced([leaf('eq/a'), leaf('eq/b')]));
    for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 10 }, () => gateway.chat(way)));
    const a = upstream.requests('eq/a').length;
    assert.ok(a >= 25 && a <= 75, `${a} of 100`);
  });

  test('a draw is final: its failure is the answer, no sibling is tried', async () => {
    upstream.on('final/a', status(500));
    const response = await gateway.chat(config(balanced([target(upstream, 'final/a'), leaf('final/b', { weight: 0 })])));
    const trace = await gateway.traceOf(response);
    assert.deepEqual([response.status, used(response), trace.attempt_count], [500, 'config.targets[0]', 1]);
    assert.equal(attempts(trace)[0].attempt.reason, 'loadbalance');
    assert.equal(upstream.requests('final/b').length, 0);
  });

  test('a draw among nobody is refused', async () => {
    const response = await gateway.chat(config(balanced([leaf('none', { weight: 0 })])));
    assert.deepEqual([response.status, response.json().error.code], [400, 'invalid_config']);
    assert.match(response.json().message, /no target selectable/);
    assert.equal(upstream.requests('none').length, 0);
  });

  test('the trace holds what the draw was made of', async () => {
    const response = await gateway.chat(config(balanced([leaf('drawn/a', { weight: 3 }), leaf('drawn/b')])));
    const [decision, ...more] = decisions(await gateway.traceOf(response));
    assert.deepEqual(more, []);
    const { 'portkey.decision.draw': draw, ...rest } = decision;
    assert.deepEqual(rest, {
      'portkey.decision.path': 'config',
      'portkey.decision.mode': 'loadbalance',
      'portkey.decision.weights': [3, 1],
      'portkey.decision.target': used(response),
    });
    assert.ok(Number.isSafeInteger(draw) && draw >= 0 && draw < 2 ** 53, String(draw));
    assert.equal((draw / 2 ** 53) * 4 < 3 ? 0 : 1, used(response) === 'config.targets[0]' ? 0 : 1);
  });
});

describe('conditional routing', { concurrency: true }, () => {
  const targets = key => ['a', 'b', 'c'].map(name => leaf(`${key}/${name}`, { name }));
  const ask = (key, conditions, { fallbackTo, body, metadata, path = '/v1/chat/completions' } = {}) =>
    gateway.post(path, { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'ping' }], ...body }, config(conditional(conditions, targets(key), fallbackTo), metadata && { 'x-portkey-metadata': JSON.stringify(metadata) }));
  const index = response => [response.status, used(response)];

  for (const [name, query, options, expected] of [
    ['metadata', { 'metadata.user_plan': { $eq: 'paid' } }, { metadata: { user_plan: 'paid' } }, 1],
    ['metadata that differ', { 'metadata.user_plan': { $eq: 'paid' } }, { metadata: { user_plan: 'free' } }, 2],
    ['metadata that are missing', { 'metadata.user_plan': { $eq: 'paid' } }, {}, 2],
    ['missing metadata that shall differ', { 'metadata.user_plan': { $ne: 'paid' } }, {}, 1],
    ['a parameter', { 'params.temperature': { $gt: 0.7 } }, { body: { temperature: 0.9 } }, 1],
    ['a parameter that is too low', { 'params.temperature': { $gt: 0.7 } }, { body: { temperature: 0.7 } }, 2],
    ['a parameter that is missing', { 'params.temperature': { $gt: 0.7 } }, {}, 2],
    ['a pattern', { 'params.model': { $regex: '^gpt-4o' } }, {}, 1],
    ['the path', { 'url.pathname': { $eq: '/v1/chat/completions' } }, {}, 1],
    ['another path', { 'url.pathname': { $eq: '/v1/embeddings' } }, {}, 2],
    ['a list', { 'params.model': { $in: ['o3', 'gpt-4o-mini'] } }, {}, 1],
    ['all and any', { $and: [{ $or: [{ 'params.n': 1 }, { 'metadata.a': 'b' }] }, { 'params.model': { $nin: ['o3'] } }] }, { metadata: { a: 'b' } }, 1],
  ])
    test(`${name} ${expected === 1 ? 'leads to its target' : 'leads to the default'}`, async () => {
      const response = await ask(`c-${name.replaceAll(/\W+/g, '-')}`, [{ query, then: 'b' }], { fallbackTo: 'c', ...options });
      assert.deepEqual(index(response), [200, `config.targets[${expected}]`]);
    });

  test('embeddings have a path of their own', async () => {
    const response = await ask('c-embed', [{ query: { 'url.pathname': '/v1/embeddings' }, then: 'b' }], { fallbackTo: 'c', path: '/v1/embeddings', body: { input: 'x' } });
    assert.deepEqual(index(response), [200, 'config.targets[1]']);
  });

  test('conditions ask the caller’s body, not what a config makes of it', async () => {
    const way = conditional([{ query: { 'params.model': 'gpt-4o-mini' }, then: 'b' }], targets('c-original'), 'c');
    const response = await gateway.chat(config({ ...way, override_params: { model: 'other' } }));
    assert.deepEqual(index(response), [200, 'config.targets[1]']);
    assert.equal(JSON.parse(upstream.requests('c-original/b')[0].body).model, 'other');
  });

  test('nobody to go to is a 400 with a record', async () => {
    const response = await ask('c-nobody', [{ query: { 'metadata.a': 1 }, then: 'a' }]);
    const trace = await gateway.traceOf(response);
    assert.deepEqual([response.status, response.json().error.code, trace.attempt_count], [400, 'no_target', 0]);
    assert.deepEqual(decisions(trace), [{ 'portkey.decision.path': 'config', 'portkey.decision.mode': 'conditional', 'portkey.decision.condition': 'none', 'portkey.decision.values': {} }]);
  });

  for (const [name, conditions, fallbackTo, words] of [
    ['an unknown operator', [{ query: { 'metadata.a': { $foo: 1 } }, then: 'a' }], undefined, /strategy\.conditions\[0\]\.query\.metadata\.a\.\$foo: unknown operator '\$foo'/],
    ['a then that names nobody', [{ query: {}, then: 'zz' }], undefined, /no target has the name 'zz'/],
    ['a default that names nobody', [{ query: {}, then: 'a' }], 'yy', /no target has the name 'yy'/],
    ['no conditions', [], 'a', /at least one condition/],
  ])
    test(`${name} is a 400 that names it`, async () => {
      const response = await ask('c-bad', conditions, { fallbackTo });
      assert.deepEqual([response.status, response.json().error.code], [400, 'invalid_config']);
      assert.match(response.json().message, words);
    });

  test('the trace holds which condition was true and what it read', async () => {
    const conditions = [
      { query: { 'metadata.plan': 'free' }, then: 'a' },
      { query: { 'params.temperature': { $gte: 0.5 }, 'params.messages': { $ne: 1 }, 'params.gone': { $ne: 1 } }, then: 'b' },
      { query: { 'params.top_p': 1 }, then: 'c' },
    ];
    const response = await ask('c-told', conditions, { metadata: { plan: 'paid', other: 'x' }, body: { temperature: 0.9, top_p: 1 } });
    const trace = await gateway.traceOf(response);
    assert.deepEqual(decisions(trace), [{
      'portkey.decision.path': 'config',
      'portkey.decision.mode': 'conditional',
      'portkey.decision.condition': 1,
      'portkey.decision.values': { 'metadata.plan': 'paid', 'params.temperature': 0.9, 'params.messages': [] },
      'portkey.decision.target': 'config.targets[1]',
    }]);
    assert.equal(attempts(trace)[0].attempt.reason, 'condition');
  });

  test('what a condition read is kept without credentials, and without the body’s words where bodies are not kept', async () => {
    const conditions = [{ query: { 'params.user': { $regex: 'sk-upstream' } }, then: 'a' }, { query: { 'params.n': 2 }, then: 'a' }];
    const kept = await ask('c-secret', conditions, { fallbackTo: 'c', body: { user: 'my key is sk-upstream', n: 1 } });
    const [{ 'portkey.decision.values': values }] = decisions(await gateway.traceOf(kept));
    assert.match(values['params.user'], /^my key is (?!sk-upstream)/);
    const off = await gateway.chat({ ...config(conditional(conditions, targets('c-off'), 'c')), 'x-portkey-debug': 'false' }, { user: 'secret words', n: 1 });
    const [decision] = decisions(await gateway.traceOf(off));
    assert.deepEqual(decision['portkey.decision.values'], { 'params.n': 1 });
  });

  test('draws, conditions, retries and fallbacks tell their story in order', async () => {
    upstream.on('story/bad', status(429, { headers: { 'retry-after-ms': '5' } }));
    const bad = target(upstream, 'story/bad', { name: 'bad', retry: { attempts: 1, use_retry_after_header: true } });
    const way = { strategy: { mode: 'fallback' }, targets: [conditional([{ query: {}, then: 'bad' }], [bad]), balanced([leaf('story/good')])] };
    const response = await gateway.chat(config(way));
    const told = decisions(await gateway.traceOf(response)).map(one => ['mode', 'path', 'status', 'target'].map(key => one[`portkey.decision.${key}`]));
    assert.deepEqual(told, [
      ['conditional', 'config.targets[0]', undefined, 'config.targets[0].targets[0]'],
      ['retry', 'config.targets[0].targets[0]', 429, 'config.targets[0].targets[0]'],
      ['fallback', 'config', 429, 'config.targets[1]'],
      ['loadbalance', 'config.targets[1]', undefined, 'config.targets[1].targets[0]'],
    ]);
    assert.equal(used(response), 'config.targets[1].targets[0]');
  });
});

describe('POST /v1/configs/validate', { concurrency: true }, () => {
  const validate = (body, headers) => gateway.post('/v1/configs/validate', body, headers);

  test('a good config has its worst case', async () => {
    const response = await validate({ provider: 'openai', request_timeout: 1000, retry: { attempts: 2 } });
    assert.deepEqual([response.status, response.json()], [200, { valid: true, errors: [], warnings: [], worst_case: { attempts: 3, wall_time_ms: 6000 } }]);
  });

  test('mistakes and warnings come with their paths', async () => {
    const bad = (await validate({ strategy: { mode: 'fallback' }, targets: [{ provider: 'nope' }, { virtual_key: 'x' }] })).json();
    assert.deepEqual([bad.valid, bad.errors.map(({ path }) => path), bad.worst_case], [false, ['targets[0].provider', 'targets[1].virtual_key'], null]);
    const idle = (await validate({ targets: [{ provider: 'openai' }, { provider: 'openai' }] })).json();
    assert.deepEqual([idle.valid, idle.warnings.map(({ path }) => path), idle.worst_case], [true, ['targets[1]'], { attempts: 1, wall_time_ms: null }]);
    const wide = (await validate({ strategy: { mode: 'fallback' }, targets: Array.from({ length: 51 }, () => ({ provider: 'openai' })) })).json();
    assert.deepEqual([wide.valid, wide.errors.length, wide.worst_case.attempts], [false, 1, 51]);
  });

  test('what is no config at all is told, too', async () => {
    for (const body of ['{bad', '[]', ''])
      assert.equal((await send(`${gateway.url}/v1/configs/validate`, { headers: { 'x-portkey-api-key': ADMIN_KEY, 'content-type': 'application/json' }, body })).json().valid, false, body);
    const long = await validate({ provider: 'openai', metadata: { a: 'x'.repeat(140_000) } });
    assert.deepEqual([long.status, long.json().error.code], [400, 'invalid_body']);
  });

  test('a root without a provider is for that of the header', async () => {
    assert.equal((await validate({ retry: { attempts: 1 } })).json().valid, false);
    assert.equal((await validate({ retry: { attempts: 1 } }, { 'x-portkey-provider': 'openai' })).json().valid, true);
  });

  test('it needs a key, and is a POST', async () => {
    assert.equal((await send(`${gateway.url}/v1/configs/validate`, { body: '{}' })).status, 401);
    assert.equal((await gateway.get('/v1/configs/validate')).status, 405);
  });
});
