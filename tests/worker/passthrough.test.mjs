// Same language in and out: bytes pass untouched, headers by allow-list (architecture decision 1, protocol §1.11, §3.2).
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { ADMIN_KEY, config, startGateway, target, to } from './support/gateway.mjs';
import { bytes, chat, json, startUpstream } from './support/upstream.mjs';

const upstream = await startUpstream();
const gateway = await startGateway();
after(() => Promise.all([gateway.stop(), upstream.stop()]));

/** JSON that no parser gives back the way it came. */
const ODD_BODY = `{ "seed" : 12345678901234567890,\t"model":"gpt-4o-mini" ,
  "z_unknown": {"b": 1.0, "a": 1e400, "\\u0062": -0.0},
  "messages": [ {"role":"user","content":"h\\u00e9llo \\ud83d\\ude00 caf\u00e9 \u{1F600} \\/ \\u0000"} ],
  "metadata":{"big":9007199254740993,"tiny":1.000000000000000000001},"empty":[],"dup":1,"dup":2 }\r\n`;
const ODD_ANSWER = `\n {"usage":{"total_tokens":3,"prompt_tokens":1,"completion_tokens":2,"x":12345678901234567890},  "id":"\\u0063hatcmpl", "object":"chat.completion",
"choices":[{"finish_reason":"stop","index":0,"message":{"content":"\\ud83d\\ude00 ok \u00fc","role":"assistant","annotations":[]}}],"model":"gpt-4o-mini","zz":1.10 }\n`;

describe('bytes', { concurrency: true }, () => {
  test('of a request reach the upstream as they came', async () => {
    upstream.on('odd-request', json(chat()));
    const response = await gateway.chat(to(upstream, 'odd-request'), Buffer.from(ODD_BODY));
    assert.equal(response.status, 200, response.text());
    const [seen] = upstream.requests('odd-request');
    assert.equal(seen.body.toString(), ODD_BODY);
    assert.equal(seen.headers['content-length'] ?? String(seen.body.length), String(Buffer.byteLength(ODD_BODY)));
  });

  test('of an answer reach the client as they came', async () => {
    upstream.on('odd-answer', json(ODD_ANSWER));
    const response = await gateway.chat(to(upstream, 'odd-answer'));
    assert.equal(response.text(), ODD_ANSWER);
    const log = await gateway.logOf(response);
    assert.equal(log.response.body.zz, 1.1);
  });

  test('of an answer in many small pieces reach the client as they came', async () => {
    const body = Buffer.from(ODD_ANSWER);
    upstream.on('odd-pieces', bytes([...body].map(byte => Buffer.from([byte])), { headers: { 'content-type': 'application/json' } }));
    const response = await gateway.chat(to(upstream, 'odd-pieces'));
    assert.deepEqual(response.body(), body);
  });

  test('of an upstream’s error reach the client with its status, JSON or not', async () => {
    for (const [name, status, body, type] of [
      ['e400', 400, '{"error":{"message":"bad  thing","type":"invalid_request_error","param":"x","code":null}}', 'application/json'],
      ['e502', 502, '<html><h1>Bad Gateway</h1></html>', 'text/html'],
      ['e418', 418, 'short and stout', 'text/plain; charset=utf-8'],
      ['e404', 404, '', 'application/json'],
    ]) {
      upstream.on(name, bytes(body ? [body] : [], { status, headers: { 'content-type': type } }));
      const response = await gateway.chat(to(upstream, name));
      assert.equal(response.status, status);
      assert.equal(response.text(), body);
      assert.equal(response.headers['content-type'], type);
      const trace = await gateway.traceOf(response);
      for (const span of trace.spans) assert.deepEqual([span.status, span.status_code, span.error.type], ['error', status, 'http_status'], span.kind);
    }
  });

  test('of half an answer, or of none in JSON, are a failure of the upstream and never look whole', async () => {
    for (const [name, body] of [['half', ODD_ANSWER.slice(0, 120)], ['binary', Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 256))], ['html', '<html>welcome</html>'], ['none', '']]) {
      upstream.on(`no-${name}`, bytes(body.length ? [body] : [], { headers: { 'content-type': 'application/json' } }));
      const response = await gateway.chat(to(upstream, `no-${name}`));
      assert.equal(response.status, 502, name);
      assert.equal(typeof response.json().error.message, 'string');
      const trace = await gateway.traceOf(response);
      assert.equal(trace.attempt_count, 1);
      for (const span of trace.spans) assert.deepEqual([span.status, span.error.type], ['error', 'stream_malformed'], `${name} ${span.kind}`);
      assert.deepEqual(trace.spans.map(span => span.status_code).sort(), [200, 502]);
    }
  });

  test('of a compressed answer are the same text, in a truthful encoding', async () => {
    const body = JSON.stringify(chat('zipped '.repeat(200)));
    upstream.on('gzip', bytes([gzipSync(body)], { headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } }));
    for (const accept of ['gzip', 'identity']) {
      const response = await gateway.chat(to(upstream, 'gzip', { 'accept-encoding': accept }));
      const text = response.headers['content-encoding'] === 'gzip' ? gunzipSync(response.body()).toString() : response.text();
      assert.equal(text, body, accept);
      const log = await gateway.logOf(response);
      assert.equal(log.response.body.choices[0].message.content, 'zipped '.repeat(200));
    }
  });

  test('of 2 MB pass both ways', async () => {
    const large = 'x\\u00e9 '.repeat(250_000);
    upstream.on('large', json(`{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"${large}"},"finish_reason":"stop"}]}`));
    const body = `{"model":"gpt-4o","messages":[{"role":"user","content":"${large}"}]}`;
    const response = await gateway.chat(to(upstream, 'large'), Buffer.from(body));
    assert.equal(response.status, 200);
    assert.ok(upstream.requests('large')[0].body.equals(Buffer.from(body)));
    assert.ok(response.text().includes(large));
  });
});

describe('request headers', { concurrency: true }, () => {
  const client = {
    accept: 'application/json',
    'user-agent': 'OpenAI/Python 2.54.0',
    'x-stainless-lang': 'python',
    'x-stainless-retry-count': '0',
    'x-portkey-metadata': '{"_user":"u"}',
    'x-portkey-trace-id': 'headers-trace',
    'x-portkey-package-version': 'portkey-2.3.4',
    cookie: 'session=canary',
    'x-forwarded-for': '10.1.2.3',
    'cf-connecting-ip': '10.1.2.3',
    'x-api-key': 'someone-elses',
    'x-custom': 'mine',
    baggage: 'user=canary',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  };

  test('only what the provider needs goes upstream', async () => {
    upstream.on('headers', json(chat()));
    await gateway.chat(to(upstream, 'headers', client));
    const { headers } = upstream.requests('headers')[0];
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers.authorization, 'Bearer sk-upstream');
    // `cf-worker` is added by the platform to every fetch of a Worker; `host` and framing by HTTP itself.
    const allowed = ['accept', 'accept-encoding', 'authorization', 'cf-worker', 'connection', 'content-length', 'content-type', 'host', 'transfer-encoding', 'user-agent'];
    assert.deepEqual(Object.keys(headers).filter(name => !allowed.includes(name)), []);
    assert.ok(!JSON.stringify(headers).includes(ADMIN_KEY));
    assert.ok(!JSON.stringify(headers).includes('canary'));
  });

  test('named ones are forwarded, from the header and from the config, however they are spelt', async () => {
    for (const [key, headers] of [
      ['fwd-header', { 'x-portkey-forward-headers': 'X-Custom, x-other' }],
      ['fwd-list', { 'x-portkey-forward-headers': "['x-custom', \"X-Other\"]" }],
      ['fwd-camel', { 'x-portkey-forward-headers': 'xCustom,xOther' }],
      ['fwd-config', config(target(upstream, 'fwd-config', { forward_headers: ['x-custom', 'X-Other'] }))],
    ]) {
      upstream.on(key, json(chat()));
      const response = await gateway.chat({ ...(key === 'fwd-config' ? {} : to(upstream, key)), ...client, 'x-other': 'two', ...headers });
      assert.equal(response.status, 200, response.text());
      const seen = upstream.requests(key)[0].headers;
      assert.deepEqual([seen['x-custom'], seen['x-other'], seen.cookie, seen['x-stainless-lang']], ['mine', 'two', undefined, undefined], key);
    }
  });

  test('the gateway key is not forwarded even when asked for', async () => {
    for (const [key, headers] of [
      ['fwd-key', { 'x-portkey-forward-headers': 'x-portkey-api-key,x-portkey-trace-id,x-custom' }],
      ['fwd-bearer', { 'x-portkey-forward-headers': 'authorization', authorization: `Bearer ${ADMIN_KEY}` }],
      ['fwd-config-key', config(target(upstream, 'fwd-config-key', { forward_headers: ['x-portkey-api-key', 'authorization'] }), { authorization: `Bearer ${ADMIN_KEY}` })],
    ]) {
      upstream.on(key, json(chat()));
      await gateway.chat({ ...(key === 'fwd-config-key' ? {} : to(upstream, key)), ...headers });
      for (const entry of upstream.requests(key)) {
        assert.ok(!JSON.stringify(entry.headers).includes(ADMIN_KEY), `${key}: the gateway key went upstream`);
        assert.deepEqual(Object.keys(entry.headers).filter(name => name.startsWith('x-portkey-')), [], key);
      }
    }
  });

  test('forwarding the list itself is refused', async () => {
    const response = await gateway.chat(to(upstream, 'fwd-self', { 'x-portkey-forward-headers': 'a, X-Portkey-Forward-Headers' }));
    assert.equal(response.status, 400);
    assert.equal(upstream.requests('fwd-self').length, 0);
  });
});

describe('response headers', { concurrency: true }, () => {
  test('say what the gateway did', async () => {
    upstream.on('says', json(chat()));
    const response = await gateway.chat(to(upstream, 'says', { 'x-portkey-trace-id': 'says-trace' }));
    const { headers } = response;
    assert.equal(headers['x-portkey-trace-id'], 'says-trace');
    assert.equal(headers['x-portkey-retry-attempt-count'], '0');
    assert.equal(headers['x-portkey-cache-status'], 'DISABLED');
    assert.equal(headers['x-portkey-last-used-option-index'], 'config');
    assert.equal(headers['x-portkey-provider'], 'openai');
    assert.match(headers['x-portkey-request-id'], /^[0-9a-f]{32}$/);
    assert.equal(headers['x-portkey-gateway-exception'], undefined);
    assert.equal(headers['x-portkey-last-used-option-params'], undefined);
  });

  test('of the upstream pass, except framing and what would speak for the gateway', async () => {
    const upstreams = {
      'x-request-id': 'req_1',
      'x-ratelimit-remaining-tokens': '149984',
      'openai-processing-ms': '12',
      'retry-after': '7',
      'x-anything': 'else',
      'x-portkey-trace-id': 'forged',
      'x-portkey-provider': 'forged',
      'x-portkey-cache-status': 'HIT',
      'x-portkey-gateway-exception': 'true',
    };
    upstream.on('pass', json(chat(), { headers: upstreams }));
    const response = await gateway.chat(to(upstream, 'pass', { 'x-portkey-trace-id': 'pass-trace' }));
    for (const name of ['x-request-id', 'x-ratelimit-remaining-tokens', 'openai-processing-ms', 'retry-after', 'x-anything']) assert.equal(response.headers[name], upstreams[name], name);
    assert.equal(response.headers['x-portkey-trace-id'], 'pass-trace');
    assert.equal(response.headers['x-portkey-provider'], 'openai');
    assert.equal(response.headers['x-portkey-cache-status'], 'DISABLED');
    assert.equal(response.headers['x-portkey-gateway-exception'], undefined);
    assert.equal(response.headers['content-type'], 'application/json');
  });

  test('of every refusal carry a trace id, so that SDKs do not try again', async () => {
    for (const [body, headers] of [
      ['{bad', to(upstream, 'refused')],
      ['{}', { 'x-portkey-provider': 'nope' }],
      ['{}', { 'x-portkey-config': '{bad' }],
      ['{}', {}],
    ]) {
      const response = await gateway.chat({ 'x-portkey-trace-id': 'refusals', ...headers }, Buffer.from(body));
      assert.ok(response.status >= 400, `${response.status} ${body} ${JSON.stringify(headers)}`);
      assert.equal(response.headers['x-portkey-trace-id'], 'refusals');
    }
    assert.equal(upstream.requests('refused').length, 0);
  });

  test('tell plain SDKs not to retry what the gateway has retried', async () => {
    upstream.on('should-retry', json({ error: { message: 'no' } }, { status: 429, headers: { 'retry-after-ms': '1' } }));
    const response = await gateway.chat(config(target(upstream, 'should-retry', { retry: { attempts: 2, use_retry_after_header: true } })));
    assert.equal(response.status, 429);
    assert.equal(upstream.requests('should-retry').length, 3);
    assert.equal(response.headers['x-portkey-retry-attempt-count'], '-1');
    assert.equal(response.headers['x-should-retry'], 'false');
  });
});
