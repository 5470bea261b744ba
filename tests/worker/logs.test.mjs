// What a log keeps of what was said, and what it must never keep (query-api §2, architecture decisions 6 and 7).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ADMIN_KEY, attempts, config, QUESTION, startGateway, target, to } from './support/gateway.mjs';
import { send } from './support/client.mjs';
import { bytes, chat, chatEvents, json, sse, startUpstream, status } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

describe('a log', { concurrency: true }, () => {
  test('holds request and response as they were', async () => {
    upstream.on('log', json(chat('pong'), { headers: { 'x-request-id': 'req_9' } }));
    const response = await gateway.chat(to(upstream, 'log', { 'user-agent': 'test/1' }), { user: 'u', seed: 3 });
    const log = await gateway.logOf(response);
    assert.equal(log.kind, 'request');
    assert.equal(log.log_id, response.headers['x-portkey-request-id']);
    assert.deepEqual([log.request.method, log.request.url], ['POST', '/v1/chat/completions']);
    assert.deepEqual(log.request.body, { ...QUESTION, user: 'u', seed: 3 });
    assert.deepEqual([log.response.status, log.response.body], [200, chat('pong')]);
    const header = (side, name) => (Array.isArray(side.headers) ? Object.fromEntries(side.headers) : side.headers)[name];
    assert.equal(header(log.request, 'user-agent'), 'test/1');
    assert.match(header(log.response, 'content-type'), /json/);
  });

  test('of a stream holds the assembled answer', async () => {
    upstream.on('log-stream', sse(chatEvents('one two three')));
    const response = await gateway.chat(to(upstream, 'log-stream'), { stream: true });
    const log = await gateway.logOf(response);
    assert.equal(log.response.body.choices[0].message.content, 'one two three');
    assert.equal(log.response.body.choices[0].finish_reason, 'stop');
    assert.equal(log.response.body.usage.total_tokens, 1200);
    assert.equal(log.response.body.object, 'chat.completion');
  });

  test('of a failed attempt holds what the upstream said', async () => {
    upstream.on('log-fail/0', status(500)).on('log-fail/1', json(chat()));
    const response = await gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'log-fail/0'), target(upstream, 'log-fail/1')] }));
    const [failed] = attempts(await gateway.traceOf(response));
    const log = await gateway.log(failed.log_id);
    const said = log.upstream_response ?? log.response;
    assert.deepEqual([said.status, said.body.error.code], [500, 'e500']);
  });

  test('keeps big integers and unknown fields as they were sent', async () => {
    upstream.on('log-big', json('{"id":"x","choices":[],"big":12345678901234567890}'));
    const response = await gateway.chat(to(upstream, 'log-big'), Buffer.from('{"model":"m","messages":[],"seed":12345678901234567890}'));
    await gateway.logOf(response);
    const raw = (await gateway.get(`/v1/logs/${response.headers['x-portkey-request-id']}`)).text();
    assert.equal(raw.split('12345678901234567890').length - 1, 2, raw);
  });

  test('without bodies when x-portkey-debug is false, but with every number', async () => {
    upstream.on('debug', json(chat('canary-debug')));
    const response = await gateway.chat(to(upstream, 'debug', { 'x-portkey-debug': 'false' }), { messages: [{ role: 'user', content: 'canary-debug' }] });
    const trace = await gateway.traceOf(response);
    assert.equal(trace.usage.total_tokens, 1200);
    const kept = (await gateway.dump()) + JSON.stringify(await gateway.objects());
    assert.ok(!kept.includes('canary-debug'));
  });

  for (const [name, size] of [['30 KB', 30_000], ['100 KB', 100_000], ['200 KB', 200_000], ['1 MB', 1_000_000], ['9.9 MB', 9_900_000]])
    test(`holds ${name} each way, or says how much was cut`, { timeout: 120_000 }, async () => {
      // Quotes and newlines grow when they are escaped; ü is two bytes.
      const filler = '"x"\n ü ';
      const text = filler.repeat(size / 12);
      upstream.on(`size-${size}`, json(chat(text)));
      const response = await gateway.chat(to(upstream, `size-${size}`), { messages: [{ role: 'user', content: text }] });
      assert.equal(response.status, 200);
      assert.equal(response.json().choices[0].message.content, text);
      const log = await gateway.logOf(response);
      const sizes = { request: upstream.requests(`size-${size}`)[0].body.length, response: response.body().length };
      for (const side of ['request', 'response']) {
        const { body } = log[side];
        if (body.truncated) {
          assert.ok(size > 1_000_000, `${name} was cut`);
          assert.equal(body.bytes, sizes[side], `${side} says its whole length`);
        } else {
          const content = side === 'request' ? body.messages[0].content : body.choices[0].message.content;
          assert.ok(content === text, `${side} is kept as it was`);
        }
      }
      assert.equal((await gateway.traceOf(response)).usage.total_tokens, 1200);
    });

  test('of an attempt and its request both survive when both are large', async () => {
    const text = 'y'.repeat(90_000);
    upstream.on('both/0', status(500, {}), json(chat())).on('both/1', json(chat(text)));
    const response = await gateway.chat(config({
      strategy: { mode: 'fallback' },
      targets: [target(upstream, 'both/0', { override_params: { user: 'z' } }), target(upstream, 'both/1', { override_params: { user: 'z' } })],
    }), { messages: [{ role: 'user', content: text }] });
    const log = await gateway.logOf(response);
    assert.equal(log.request.body.messages[0].content, text);
    assert.equal(log.response.body.choices[0].message.content, text);
    const tries = attempts(await gateway.traceOf(response));
    assert.equal(tries.length, 2);
  });
});

describe('secrets', () => {
  test('of no kind come to rest anywhere: D1, R2, query API, console', { timeout: 60_000 }, async () => {
    const canary = name => `sk-canary-${name}-0123456789`;
    const slashed = 'sk-canary/with/slashes-0123456789';
    const big = 'z'.repeat(150_000);
    const echo = key => json({ error: { message: `Incorrect API key provided: ${key}. Header was Bearer ${key}`, key } }, { status: 401, headers: { 'x-request-id': key, 'www-authenticate': `Bearer ${key}` } });

    upstream.on('echo-1', echo(canary('bearer')));
    upstream.on('echo-2', echo(canary('config')));
    upstream.on('echo-3', json(JSON.stringify({ id: 'x', choices: [{ message: { content: `your key is ${slashed} ${big}` } }] }).replaceAll('/', '\\/')));
    upstream.on('echo-4', sse([...chatEvents(`key ${canary('bearer')} in a stream`, { done: false }), 'data: [DONE]\n\n']));
    upstream.on('echo-5', bytes([`plain ${canary('bearer')} and ${ADMIN_KEY}`], { status: 500, headers: { 'content-type': 'text/plain' } }));
    upstream.on('echo-6', sse([`data: {"error":{"message":"bad key ${canary('bearer')}"}}\n\n`]));
    upstream.on('ok', json(chat()));
    const bearer = { authorization: `Bearer ${canary('bearer')}` };

    const calls = [
      gateway.chat(to(upstream, 'echo-1', bearer)),
      gateway.chat(config({ strategy: { mode: 'fallback' }, targets: [target(upstream, 'echo-2', { api_key: canary('config') }), target(upstream, 'ok', { apiKey: canary('config2'), api_key: undefined })] })),
      gateway.chat(to(upstream, 'echo-3', { authorization: `Bearer ${slashed}` })),
      gateway.chat(to(upstream, 'echo-4', bearer), { stream: true }),
      gateway.chat(to(upstream, 'echo-5', bearer)),
      gateway.chat(to(upstream, 'echo-6', bearer), { stream: true }),
      // Headers that carry secrets, wanted or not.
      gateway.chat(to(upstream, 'ok', {
        ...bearer,
        'x-portkey-aws-secret-access-key': canary('aws'),
        'x-portkey-azure-ad-token': canary('azure'),
        'x-portkey-vertex-service-account-json': JSON.stringify({ private_key: canary('vertex') }),
        'x-api-key': canary('x-api'),
        'api-key': canary('api'),
        cookie: `session=${canary('cookie')}`,
        'proxy-authorization': canary('proxy'),
        'x-amz-security-token': canary('amz'),
        'x-my-secret': canary('unknown'),
        'user-agent': `curl ${canary('bearer')}`,
        'x-portkey-metadata': JSON.stringify({ note: `my key is ${canary('bearer')}` }),
      })),
      // Keys in the wrong place: the bodies of calls that use them.
      gateway.chat(to(upstream, 'ok', bearer), { messages: [{ role: 'user', content: `my keys: ${canary('bearer')} ${ADMIN_KEY}` }], user: canary('bearer') }),
      gateway.chat(to(upstream, 'ok', bearer), { model: canary('bearer') }),
      gateway.chat(to(upstream, 'ok', { ...bearer, 'x-portkey-forward-headers': 'x-tenant-token', 'x-tenant-token': canary('forwarded') })),
      // Refused ones.
      gateway.chat({ ...bearer, 'x-portkey-config': `{"provider":"openai","api_key":"${canary('broken')}"` }),
      gateway.chat({ ...bearer, ...config({ provider: 'nope', api_key: canary('nope'), targets: 5 }) }),
      gateway.chat({ ...bearer, ...config({ provider: 'openai', api_key: [canary('list')] }) }),
      gateway.chat({ ...bearer, 'x-portkey-provider': 'openai', 'x-portkey-custom-host': `https://user:${canary('password')}@api.example.com/v1` }),
      gateway.chat({ ...bearer, ...config({ provider: 'openai', api_key: 'k', custom_host: `https://user:${canary('password')}@api.example.com/v1` }) }),
      gateway.chat({ ...bearer, 'x-portkey-config': canary('not-a-config') }),
      gateway.chat({ ...bearer, 'x-portkey-api-key': canary('wrong-gateway') }),
      send(`${gateway.url}/v1/chat/completions?api_key=${canary('query')}`, { headers: { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, ...to(upstream, 'ok', bearer) }, body: JSON.stringify(QUESTION) }),
    ];
    const responses = await Promise.all(calls);
    await gateway.rest();

    const recorded = responses.filter(response => response.headers['x-portkey-request-id']);
    const read = await Promise.all(recorded.map(response => gateway.get(`/v1/logs/${response.headers['x-portkey-request-id']}`)));
    const traces = await Promise.all(recorded.map(response => gateway.get(`/v1/traces/${response.headers['x-portkey-trace-id']}`)));
    assert.ok(recorded.length >= 15, `${recorded.length} calls were recorded`);
    const places = {
      d1: await gateway.dump(),
      r2: Object.entries(await gateway.objects()).flat().join('\n'),
      logs: read.map(response => response.text()).join('\n'),
      traces: traces.map(response => response.text()).join('\n'),
      console: gateway.console.join('\n'),
    };
    assert.ok(places.r2.includes('zzzz'), 'the large answer went to R2');
    for (const [place, text] of Object.entries(places)) {
      const leaks = [...text.replaceAll('\\/', '/').matchAll(/.{0,80}(sk-canary[-/\w]*|gw-admin-key-for-tests).{0,20}/g)].map(match => match[0]);
      assert.deepEqual([...new Set(leaks)], [], `in ${place}`);
    }
    // It is the copy that is masked, not what the caller gets.
    assert.ok(responses[0].text().includes(canary('bearer')));
    assert.ok(responses[3].text().includes(canary('bearer')));
  });
});
