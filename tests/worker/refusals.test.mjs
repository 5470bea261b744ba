// What the gateway refuses, how it says so, and that every refusal leaves a span (protocol §2.9, §2.11; query-api §1).
import assert from 'node:assert/strict';
import http from 'node:http';
import { Readable } from 'node:stream';
import { after, describe, test } from 'node:test';
import { ADMIN_KEY, config, QUESTION, request, startGateway, target, to } from './support/gateway.mjs';
import { chat, json, startUpstream } from './support/upstream.mjs';

const LIMIT = 200_000;
const upstream = await startUpstream();
const gateway = await startGateway({ vars: { MAX_BODY_BYTES: String(LIMIT) } });
after(() => Promise.all([gateway.stop(), upstream.stop()]));

let count = 0;
/** Sends a call that must be refused; checks the shape of the answer, the span it leaves, and that nobody was called. */
async function refused(status, code, headers, body = QUESTION) {
  const trace = `refused-${++count}`;
  const before = upstream.log.length;
  const response = await gateway.post('/v1/chat/completions', body, { 'x-portkey-trace-id': trace, ...headers });
  assert.equal(response.status, status, response.text());
  assert.match(response.headers['content-type'], /^application\/json/);
  assert.equal(response.headers['x-portkey-trace-id'], trace);
  const answer = response.json();
  assert.equal(answer.status, 'failure');
  assert.equal(typeof answer.message, 'string');
  assert.deepEqual(Object.keys(answer.error).sort(), ['code', 'message', 'param', 'type']);
  assert.equal(answer.error.message, answer.message);
  if (code) assert.equal(answer.error.code, code);
  assert.equal(upstream.log.length, before, 'an upstream was called');

  const stored = await gateway.settled(trace);
  assert.equal(stored.spans.length, 1);
  assert.equal(stored.status, 'error');
  const span = request(stored);
  assert.equal(span.status, 'error');
  assert.equal(span.status_code, status);
  assert.equal(span.error.type, 'config');
  assert.ok(span.error.message.length > 0);
  assert.equal(span.span_id.length > 0, true);
  assert.equal(response.headers['x-portkey-request-id'], span.log_id ?? response.headers['x-portkey-request-id']);
  return answer;
}

describe('configs', () => {
  test('all mistakes are listed at once, each with its path', async () => {
    const answer = await refused(400, 'invalid_config', config({
      strategy: { mode: 'fallback', on_status_codes: ['x'] },
      retry: { on_status_codes: [429] },
      targets: [
        { provider: 'nope' },
        { provider: 'openai', request_timeout: 'soon', cache: { mode: 'fuzzy' } },
        { strategy: { mode: 'random' }, targets: [{ provider: 'openai', custom_host: 'http://169.254.169.254' }, { provider: 'openai', override_params: [] }] },
      ],
    }));
    for (const path of [
      'strategy,on_status_codes,0',
      'retry,attempts',
      'targets,0,provider',
      'targets,1,request_timeout',
      'targets,1,cache,mode',
      'targets,2,strategy,mode',
      'targets,2,targets,0,custom_host',
      'targets,2,targets,1,override_params',
    ])
      assert.ok(answer.errors.some(error => error.startsWith(`path: ${path}`) && /message: ./.test(error)), `${path} in ${JSON.stringify(answer.errors, null, 1)}`);
  });

  for (const [name, value, path] of [
    ['an unknown mode', { strategy: { mode: 'random' }, targets: [{ provider: 'openai' }] }, 'strategy,mode'],
    ['an unknown cache mode', { provider: 'openai', cache: { mode: 'fuzzy' } }, 'cache,mode'],
    ['no targets', { strategy: { mode: 'fallback' }, targets: [] }, 'targets'],
    ['the old format', { options: [{ provider: 'openai' }] }, 'options'],
    ['a retry without attempts', { provider: 'openai', retry: {} }, 'retry,attempts'],
    ['an unknown provider', { provider: 'nope' }, 'provider'],
    ['headers that forward themselves', { provider: 'openai', forward_headers: ['X-Portkey-Forward-Headers'] }, 'forward_headers'],
  ])
    test(`${name}`, async () => {
      const answer = await refused(400, 'invalid_config', config(value));
      assert.ok(answer.errors.some(error => error.includes(`path: ${path}`)), JSON.stringify(answer.errors));
    });

  for (const text of ['{bad', '{"provider":"openai"', '[]', '"text"', '{"provider":"openai"} x'])
    test(`text that is not a JSON object: ${text}`, () => refused(400, null, { 'x-portkey-config': text }));

  test('thousands of levels do no harm', async () => {
    await refused(400, null, { 'x-portkey-config': '{"targets":['.repeat(1000) + '{}' + ']}'.repeat(1000) });
    await refused(400, null, { 'x-portkey-config': '['.repeat(3000) });
  });

  for (const [name, value] of [
    ['sticky', { strategy: { mode: 'loadbalance', sticky: { enabled: true } }, targets: [{ provider: 'openai' }] }],
    ['caching', { provider: 'openai', cache: { mode: 'simple' } }],
    ['guardrails', { provider: 'openai', input_guardrails: ['pg-1'] }],
  ])
    test(`${name} is a 501 that names it, never ignored`, async () => {
      const answer = await refused(501, 'not_supported', config(value));
      assert.ok(answer.message.length > 20);
    });
});

describe('headers', () => {
  test('neither config nor provider', () => refused(400, 'missing_provider', {}));
  test('an unknown provider', () => refused(400, 'invalid_provider', { 'x-portkey-provider': 'nope' }));
  test('an unknown provider beside a config that decides', () => refused(400, 'invalid_provider', { 'x-portkey-provider': 'nope', ...config({ provider: 'openai', api_key: 'k' }) }));
  test('another content type', async () => {
    await refused(400, 'invalid_content_type', { ...to(upstream, 'type'), 'content-type': 'text/plain' });
    await refused(400, null, { ...to(upstream, 'type'), 'content-type': 'multipart/form-data; boundary=x' });
  });

  for (const host of [
    'http://169.254.169.254', 'http://169.254.169.254/latest/meta-data', 'file://x', 'http://2130706433', 'http://0x7f000001', 'http://0177.0.0.1', 'http://127.1',
    'http://10.0.0.1/v1', 'http://192.168.1.1', 'http://172.16.0.1', 'http://100.64.0.1', 'http://[::1]', 'http://[::ffff:10.0.0.1]', 'http://[fd00::1]',
    'http://metadata.google.internal', 'http://user:pass@api.example.com', 'ftp://api.example.com', 'gopher://x', 'http://x.localhost', 'http://foo.internal/v1',
    'https://api.example.com.', 'http://api.example.com:0', 'http://api.example.com:99999', 'not a url', '//api.example.com', 'http://', 'http://%31%30.0.0.1', 'http://127.0.0.1.nip.io.local',
  ])
    test(`custom host ${host}`, async () => {
      await refused(400, 'invalid_custom_host', { 'x-portkey-provider': 'openai', authorization: 'Bearer sk', 'x-portkey-custom-host': host });
      const answer = await refused(400, 'invalid_config', config({ provider: 'openai', api_key: 'k', custom_host: host }));
      assert.ok(answer.errors.some(error => error.startsWith('path: custom_host')));
    });
});

describe('bodies', () => {
  for (const body of ['', '{', '[]', '"x"', 'null', '{"model":}', '\ufeff', '{"a":1}}', '['.repeat(100_000)])
    test(`not a JSON object: ${body.slice(0, 12)}`, () => refused(400, 'invalid_body', to(upstream, 'body'), Buffer.from(body)));

  test('not UTF-8', () => refused(400, 'invalid_body', to(upstream, 'body'), Buffer.from([...Buffer.from('{"model":"'), 0xff, 0xfe, ...Buffer.from('"}')])));

  test('longer than the limit, said by content-length', async () => {
    const answer = await refused(413, 'body_too_large', to(upstream, 'body'), Buffer.alloc(LIMIT + 1, ' '));
    assert.match(answer.message, /MAX_BODY_BYTES/);
  });

  test('longer than the limit, in chunks without content-length', async () => {
    const headers = { 'content-type': 'application/json', 'x-portkey-api-key': ADMIN_KEY, 'x-portkey-trace-id': 'chunked', ...to(upstream, 'body'), 'transfer-encoding': 'chunked' };
    // The gateway does not read on after the limit, so the connection may break before its answer is read.
    const status = await new Promise(done => {
      const request = http.request(`${gateway.url}/v1/chat/completions`, { method: 'POST', agent: false, headers }, response => (response.resume(), done(response.statusCode)));
      request.on('error', () => done('broken'));
      Readable.from(Array.from({ length: 30 }, () => Buffer.alloc(10_000, ' '))).pipe(request);
    });
    assert.ok([413, 'broken'].includes(status), `${status}`);
    assert.equal(request(await gateway.settled('chunked')).status_code, 413);
    assert.equal(upstream.requests('body').length, 0);
  });

  test('of exactly the limit are taken', async () => {
    upstream.on('exact', json(chat()));
    const text = JSON.stringify(QUESTION);
    const response = await gateway.chat(to(upstream, 'exact'), Buffer.from(text + ' '.repeat(LIMIT - text.length)));
    assert.equal(response.status, 200, response.text());
    assert.equal(upstream.requests('exact')[0].body.length, LIMIT);
  });
});

test('a bad gateway key leaves no span', async () => {
  const trace = 'not-authenticated';
  await gateway.chat({ 'x-portkey-trace-id': trace, 'x-portkey-api-key': 'wrong', ...to(upstream, 'auth') });
  await refused(400, 'missing_provider', {}); // whatever the first had left would be there by now
  assert.equal((await gateway.get(`/v1/traces/${trace}`)).status, 404);
});
